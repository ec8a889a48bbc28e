package hold_test

import (
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// flood is a JSON body without end; it counts what is taken of it.
type flood struct {
	sent atomic.Int64
}

func (f *flood) Read(p []byte) (int, error) {
	at := f.sent.Load()
	if at >= floodSize {
		return 0, io.EOF
	}
	for i := range p {
		p[i] = 'x'
	}
	if at == 0 {
		copy(p, `{"a":"`)
	}
	f.sent.Add(int64(len(p)))
	return len(p), nil
}

const (
	floodSize = 64 << 20
	// taken is the most that may be taken of a body: 8 MiB of the largest JSON, and what the two ends of a connection buffer.
	taken = 32 << 20
)

// Every method that the hold serves refuses a body beyond its limit, from strangers and from its captain. Only the parts
// of blobs have any length; they go to the disk.
func TestNoMethodOfAHoldTakesABodyWithoutEnd(t *testing.T) {
	w := newWorld(t, public)
	queries, procedures := w.hold.Methods()
	require.NotEmpty(t, procedures)
	posts := append(procedures, "com.atproto.repo.createRecord", "com.atproto.repo.putRecord", "com.atproto.repo.deleteRecord",
		"com.atproto.repo.applyWrites", "com.atproto.repo.uploadBlob", "com.atproto.server.createSession", "no.such.method")
	gets := append(queries, "_health", "com.atproto.sync.getBlob", "com.atproto.sync.getRepo", "com.atproto.sync.subscribeRepos", "com.atproto.repo.listRecords")
	slices.Sort(posts)
	for _, who := range []string{nobody, alice} {
		token := w.token(who)
		try := func(method, name string) {
			body := &flood{}
			req, err := http.NewRequestWithContext(t.Context(), method, w.url+"/xrpc/"+name, body)
			require.NoError(t, err)
			req.Header.Set("Content-Type", "application/json")
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			resp, err := transport.RoundTrip(req)
			if err == nil { // else it hung up in the middle
				defer resp.Body.Close()
				if method == http.MethodPost && name != "io.atcr.hold.deleteUserData" { // which has no input, and reads none
					require.GreaterOrEqual(t, resp.StatusCode, 400, "%s as %q", name, who)
					if who == alice && slices.Contains(procedures, name) {
						require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode, name)
					}
				}
			}
			require.Less(t, body.sent.Load(), int64(taken), "%s %s as %q", method, name, who)
		}
		for _, name := range posts {
			try(http.MethodPost, name)
		}
		for _, name := range gets {
			try(http.MethodGet, name)
		}
	}
	require.Equal(t, http.StatusOK, w.query(nobody, "_health", nil).status)
}
