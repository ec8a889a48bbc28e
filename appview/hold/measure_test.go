package hold_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/storage/s3test"
)

// onBucket is a hold with quotas on a real S3 server, behind a proxy that may spoil requests.
func onBucket(t *testing.T) (w *world, now *clock, proxy *s3test.Proxy) {
	proxy = s3test.Start(t).Behind(t)
	w = newWorld(t, func(c *hold.Config) {
		tiered(c)
		c.StorageDriver, c.S3Bucket, c.S3Endpoint = "s3", proxy.Bucket(t), proxy.Endpoint
		c.AWSRegion, c.AWSAccessKeyID, c.AWSSecretAccessKey = proxy.Region, proxy.AccessKey, proxy.SecretKey
	})
	now = w.clocked()
	w.hold.Quiet()
	return w, now, proxy
}

func (w *world) partRefused(handle, id string) {
	w.t.Helper()
	a := w.call(handle, "io.atcr.hold.getPartUploadUrl", object{"uploadId": id, "partNumber": 9})
	require.Equal(w.t, http.StatusForbidden, a.status, "%s", a.body)
	require.Equal(w.t, "QuotaExceeded", a.errorName())
}

// putTo sends bytes to a URL that was handed out before.
func (w *world) putTo(target string, b []byte) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, target, bytes.NewReader(b))
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, w.do(req).status)
}

// A signed URL bounds no bytes, and whoever asks for many at once may put a lot: it is seen, and does not stay.
func TestPartsThatGoPastTheHoldFillNoBucket(t *testing.T) {
	w, now, proxy := onBucket(t)
	for _, handle := range []string{bob, carol} {
		w.join(handle)
	}
	twenty := bytes.Repeat([]byte("x"), 20)
	one, two := w.begin(bob), w.begin(bob)
	w.part(bob, one, 1, twenty)
	urls := []string{w.partURL(bob, two, 1), w.partURL(bob, two, 2)}
	w.putTo(urls[0], twenty)
	now.add(10 * time.Second)
	w.partRefused(bob, two)
	w.partRefused(bob, one)
	w.startRefused(bob)
	w.part(carol, w.begin(carol), 1, twenty) // others have their own
	captains := w.begin(alice)
	for n := range 3 { // who has no limit
		w.part(alice, captains, n+1, twenty)
		now.add(10 * time.Second)
	}

	require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.abortUpload", object{"uploadId": one}).status)
	w.partURL(bob, two, 3) // there is room at once
	small := w.begin(bob)
	w.part(bob, small, 1, twenty[:5])
	w.putTo(urls[1], twenty)
	require.NoError(t, w.hold.Sweep(t.Context()))
	has := func(id string) bool {
		for _, key := range proxy.Keys(t, w.cfg.S3Bucket) {
			if strings.HasPrefix(key, storage.UploadKey(id)+"/") {
				return true
			}
		}
		return false
	}
	require.False(t, has(two), "it was too large")
	require.Equal(t, "InvalidUploadId", w.call(bob, "io.atcr.hold.getPartUploadUrl", object{"uploadId": two, "partNumber": 3}).errorName())
	require.True(t, has(small), "with the largest gone it fits")
	require.True(t, has(captains))

	w.putTo(urls[1], twenty) // S3 does not know that the upload has ended
	require.True(t, has(two))
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.False(t, has(two))
	d := digest.FromBytes(twenty[:5])
	require.Equal(t, http.StatusOK, w.complete(bob, small, d, object{"partNumber": 1}).status)
}

func TestAUserWithinTheLimitIsLookedAtNowAndThen(t *testing.T) {
	w, now, proxy := onBucket(t)
	w.join(bob)
	id := w.begin(bob)
	w.partURL(bob, id, 1)
	now.add(10 * time.Second)
	proxy.Spoil(s3test.Answers(http.StatusForbidden, "AccessDenied"))
	a := w.call(bob, "io.atcr.hold.getPartUploadUrl", object{"uploadId": id, "partNumber": 1})
	unavailable(t, a, "StorageUnavailable")
	proxy.Spoil(nil)
	w.partURL(bob, id, 1)
	proxy.Spoil(s3test.Answers(http.StatusForbidden, "AccessDenied"))
	now.add(-time.Minute) // however long the machine takes, this is no ten seconds later
	w.partURL(bob, id, 1)
	require.Zero(t, proxy.Spoilt(), "the storage is not asked each time")
}
