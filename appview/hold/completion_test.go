package hold_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
)

// leaving is a storage that completes a blob after the client has left, unless it is told to stop by that.
type leaving struct {
	storage.Driver
	leave func()
}

func (l leaving) Complete(ctx context.Context, id string, d digest.Digest, parts []storage.Part) (int64, error) {
	l.leave()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return l.Driver.Complete(ctx, id, d, parts)
}

func TestAClientThatLeavesDuringACompletionStillGetsItsBlob(t *testing.T) {
	w := newWorld(t, open)
	ctx, leave := context.WithCancel(t.Context())
	w.hold.WrapDriver(func(d storage.Driver) storage.Driver { return leaving{d, leave} })
	id := w.begin(alice)
	w.part(alice, id, 1, []byte("blob"))
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, w.url+"/xrpc/io.atcr.hold.completeUpload",
		strings.NewReader(`{"uploadId":"`+id+`","digest":"`+digest.FromString("blob").String()+`","parts":[{"partNumber":1}]}`))
	req.Header.Set("Authorization", "Bearer "+w.token(alice))
	req.Header.Set("Content-Type", "application/json")
	w.hold.Handler().ServeHTTP(httptest.NewRecorder(), req)
	require.Error(t, ctx.Err())
	require.True(t, w.has(alice, "blob"))
}

// late is a storage that fails to complete a blob, and does it nevertheless when it is asked to.
type late struct {
	storage.Driver
	then *func() error
}

func (l late) Complete(ctx context.Context, id string, d digest.Digest, parts []storage.Part) (int64, error) {
	*l.then = func() error {
		_, err := l.Driver.Complete(context.WithoutCancel(ctx), id, d, parts)
		return err
	}
	return 0, errors.New("no answer")
}

func TestABlobThatTheStorageMakesAfterItsCompletionFailedLeavesNoBytes(t *testing.T) {
	w, now := at(t, open)
	var then func() error
	w.hold.WrapDriver(func(d storage.Driver) storage.Driver { return late{d, &then} })
	id := w.begin(alice)
	a := w.complete(alice, id, digest.FromString("blob"), w.part(alice, id, 1, []byte("blob")))
	require.Equal(t, "CompletionFailed", a.errorName())
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.NoError(t, then())
	require.True(t, w.stored("blob"))
	now.add(time.Hour)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.False(t, w.stored("blob"))
}
