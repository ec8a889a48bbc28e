package pds_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

// stuck takes the first bytes of an export and then none until end.
type stuck struct {
	began, end chan struct{}
	once       sync.Once
}

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.began) })
	<-s.end
	return len(p), nil
}

func TestExportsThatNobodyTakesKeepNobodyFromReading(t *testing.T) {
	e := newRepo(t)
	var writes []pds.Write
	for i := range 50 {
		writes = append(writes, pds.Write{Op: pds.Create, Collection: notes, Value: note(strings.Repeat(fmt.Sprint(i), 5000))})
	}
	_, _, err := e.ApplyWrites(t.Context(), alice, writes, cid.Undef)
	require.NoError(t, err)

	end := make(chan struct{})
	var exports sync.WaitGroup
	defer exports.Wait()
	defer close(end)
	for range max(4, runtime.NumCPU()) { // as many as there are connections for reading
		s := &stuck{began: make(chan struct{}), end: end}
		exports.Go(func() {
			if err := e.WriteRepoCAR(context.WithoutCancel(t.Context()), alice, "", s); err != nil {
				t.Errorf("export: %v", err)
			}
		})
		<-s.began
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = e.Collections(ctx, alice)
	require.NoError(t, err)
}
