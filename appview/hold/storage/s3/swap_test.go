package s3_test

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/storage/s3"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/hold/storage/storagetest"
)

// beforeRequest does something before the nth request of a driver, counted from 1.
type beforeRequest struct {
	n    int64
	seen atomic.Int64
	do   func()
}

func (b *beforeRequest) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.seen.Add(1) == b.n {
		b.do()
	}
	return http.DefaultTransport.RoundTrip(r)
}

// colliding are two blocks with the same MD5 (Wang, Feng, Lai, Yu 2004), as are any two messages that begin with them and
// go on the same: for S3 they have one ETag.
func colliding(t *testing.T) (one, two []byte) {
	t.Helper()
	one, err := hex.DecodeString("d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f8955ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b" +
		"d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70")
	require.NoError(t, err)
	two, err = hex.DecodeString("d131dd02c5e6eec4693d9a0698aff95c2fcab50712467eab4004583eb8fb7f8955ad340609f4b30283e4888325f1415a085125e8f7cdc99fd91dbd7280373c5b" +
		"d8823e3156348f5bae6dacd436c919c6dd53e23487da03fd02396306d248cda0e99f33420f577ee8ce54b67080280d1ec69821bcb6a8839396f965ab6ff72a70")
	require.NoError(t, err)
	require.Equal(t, md5.Sum(one), md5.Sum(two))
	require.NotEqual(t, one, two)
	return one, two
}

// A member who still has the URL of a part may put other bytes at any moment, with the same ETag too.
func TestWhateverIsPutDuringACompletionTheBlobIsWhatItsDigestSays(t *testing.T) {
	srv := s3test.Start(t)
	one, two := colliding(t)
	for name, sizes := range map[string][]int{
		"a small blob": {1000}, "one copy": {2 << 20}, "many parts": {6 << 20, 100},
	} {
		for kind, other := range map[string][]byte{"the same ETag": two, "another ETag": bytes.Repeat([]byte("x"), len(two))} {
			t.Run(name+" and "+kind, func(t *testing.T) {
				spy := &beforeRequest{}
				d, _ := open(t, srv, func(o *s3.Options) { o.Transport = spy })
				var parts [][]byte
				for i, size := range sizes {
					parts = append(parts, storagetest.Bytes(uint64(i), size))
				}
				changed := append(slices.Clone(other), parts[0]...)
				parts[0] = append(slices.Clone(one), parts[0]...)
				blob := bytes.Join(parts, nil)
				dg := digest.FromBytes(blob)
				// attempt completes an upload of whose first part the beginning changes before the nth request.
				attempt := func(n int64) (published bool) {
					require.NoError(t, d.Delete(t.Context(), dg))
					id := storagetest.Begin(t, d)
					var named []storage.Part
					for i, b := range parts {
						named = append(named, storagetest.Put(t, d, id, i+1, b))
					}
					spy.do = func() {
						p := storagetest.Put(t, d, id, 1, changed)
						require.Equal(t, kind == "the same ETag", p.ETag == named[0].ETag)
					}
					spy.n = n
					spy.seen.Store(0)
					_, err := d.Complete(t.Context(), id, dg, named)
					spy.n = 0
					if err == nil {
						_, got := storagetest.Get(t, d, dg, http.MethodGet, nil)
						require.True(t, bytes.Equal(blob, got), "other bytes are published")
						return true
					}
					require.True(t, errors.Is(err, storage.ErrDigestMismatch) || errors.Is(err, storage.ErrMissingPart), "%v", err)
					_, err = d.Stat(t.Context(), dg)
					require.ErrorIs(t, err, storage.ErrNotFound)
					return false
				}
				require.True(t, attempt(0), "undisturbed")
				requests := spy.seen.Load()
				require.False(t, attempt(1), "before anything was read")
				for n := int64(2); n <= requests; n++ {
					attempt(n)
				}
			})
		}
	}
}

func TestADamagedBlobIsWholeAgainWhenItIsPushedAgain(t *testing.T) {
	srv := s3test.Start(t)
	d, bucket := open(t, srv, nil)
	storagetest.Heals(t, d, func(key string, b []byte) { srv.Put(t, bucket, key, b) })
}
