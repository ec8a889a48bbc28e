package pds_test

import (
	"fmt"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

// A commit costs the same in a repository of 100 records and in one of 10,000.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			e := newRepo(b)
			fill(b, e, size)
			i := 0
			for b.Loop() {
				put(b, e, fmt.Sprint("new", i), "x")
				i++
			}
		})
	}
}

func BenchmarkGetRecord(b *testing.B) {
	e := newRepo(b)
	fill(b, e, 10_000)
	i := 0
	for b.Loop() {
		_, err := e.GetRecord(b.Context(), alice, notes, syntax.RecordKey(fmt.Sprint("k", i%10_000)))
		require.NoError(b, err)
		i++
	}
}

func fill(t testing.TB, e *pds.Engine, n int) {
	t.Helper()
	for at := 0; at < n; at += pds.MaxWrites {
		var writes []pds.Write
		for i := at; i < min(n, at+pds.MaxWrites); i++ {
			writes = append(writes, pds.Write{Op: pds.Create, Collection: notes, RKey: syntax.RecordKey(fmt.Sprint("k", i)), Value: note(fmt.Sprint(i))})
		}
		_, _, err := e.ApplyWrites(t.Context(), alice, writes, cid.Undef)
		require.NoError(t, err)
	}
}
