package hold_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/hold/storage/storagetest"
)

// The pauses between tries of a request are the client's; a test need not wait for them.
func init() { minio.DefaultRetryUnit, minio.DefaultRetryCap = time.Millisecond, time.Millisecond }

// onFaultyS3 is a hold whose S3 endpoint can be spoilt, and what it logs.
func onFaultyS3(t *testing.T) (*world, *s3test.Proxy, *bytes.Buffer) {
	t.Helper()
	p := s3test.Start(t).Behind(t)
	log := &bytes.Buffer{}
	w := newWorld(t, func(c *hold.Config) {
		public(c)
		c.StorageDriver, c.S3Bucket, c.S3Endpoint = "s3", p.Bucket(t), p.Endpoint
		c.AWSRegion, c.AWSAccessKeyID, c.AWSSecretAccessKey = p.Region, p.AccessKey, p.SecretKey
	})
	w.deps.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	later(w) // a garbage collection looks at the storage of a hold that is older than its grace period
	return w, p, log
}

var s3Faults = map[string]s3test.Fault{
	"answers 500":            s3test.Answers(http.StatusInternalServerError, "InternalError"),
	"wants fewer requests":   s3test.Answers(http.StatusServiceUnavailable, "SlowDown"),
	"refuses":                s3test.Answers(http.StatusForbidden, "AccessDenied"),
	"breaks the connection":  s3test.Cut,
	"breaks off its answers": s3test.CutAnswer,
}

// unavailable checks that an answer is one that a client tries again after, and that repeats nothing of the endpoint's.
func unavailable(t *testing.T, a reply, name string) {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, a.status, "%s", a.body)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, name, a.errorName())
	require.NotContains(t, string(a.body), s3test.Detail)
}

func TestWhateverTheS3EndpointDoesClientsAreToldToTryAgainAndNothingIsHalfThere(t *testing.T) {
	w, p, log := onFaultyS3(t)
	seed := uint64(0)
	for name, fault := range s3Faults {
		t.Run(name, func(t *testing.T) {
			defer p.Spoil(nil)
			for _, size := range []int{1000, 2 << 20} {
				seed++
				blob := storagetest.Bytes(seed, size)
				d := digest.FromBytes(blob)
				other := w.push(alice, []byte("deleted while the storage is "+name+string(d)))
				id, given := w.begin(alice), w.begin(alice)
				part := w.part(alice, id, 1, blob)
				w.part(alice, given, 1, blob)

				p.Spoil(fault)
				require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status, "that needs no storage")
				unavailable(t, w.complete(alice, id, d, part), "CompletionFailed")
				require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, d).errorName())
				unavailable(t, w.call(alice, "io.atcr.hold.abortUpload", object{"uploadId": given}), "AbortFailed")
				if name != "breaks off its answers" { // a HEAD has none to break off
					unavailable(t, w.getBlob(nobody, alice, other), "StorageUnavailable")
				}
				require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": other}).status)
				require.Equal(t, "BlobNotFound", w.getBlob(nobody, alice, other).errorName(), "it is nobody's, wherever its bytes are")
				_, err := w.hold.CollectGarbage(t.Context(), false)
				require.Error(t, err)
				require.Positive(t, p.Spoilt())

				p.Spoil(nil)
				require.Equal(t, http.StatusOK, w.complete(alice, id, d, part).status)
				require.True(t, bytes.Equal(blob, w.pull(nobody, alice, d, nil).body))
				require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.abortUpload", object{"uploadId": given}).status)
				_, err = w.hold.CollectGarbage(t.Context(), false)
				require.NoError(t, err)
				require.NotEmpty(t, w.push(alice, []byte("deleted while the storage is "+name+string(d))))
			}
		})
	}
	for _, key := range p.Keys(t, w.cfg.S3Bucket) {
		require.True(t, strings.HasPrefix(key, "blobs/"), "%s is left", key)
	}
	w.close() // nobody writes to the log any more
	text := log.String()
	require.Contains(t, text, "SlowDown", "the class of a failure is told")
	for _, secret := range []string{p.SecretKey, p.AccessKey + "/", "Signature", "X-Amz-", s3test.Detail} {
		require.NotContains(t, text, secret)
	}
}

// A registry gives up after a while: what it asked for goes on without it, but not for ever, and can be asked for again.
func TestACompletionOnAnS3EndpointThatHangsEnds(t *testing.T) {
	w, p, _ := onFaultyS3(t)
	w.hold.WaitForCompletions(time.Second)
	blob := storagetest.Bytes(1, 2<<20)
	d := digest.FromBytes(blob)
	id := w.begin(alice)
	part := w.part(alice, id, 1, blob)
	ctx, giveUp := context.WithCancel(t.Context())
	ended := make(chan struct{})
	p.Spoil(func(rw http.ResponseWriter, r *http.Request, server http.Handler) {
		if strings.Contains(r.URL.Path, d.Encoded()) { // the blob is not there yet
			server.ServeHTTP(rw, r)
			return
		}
		giveUp()
		s3test.Hang(rw, r, server)
	})
	token := w.token(alice)
	go func() {
		defer close(ended)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/xrpc/io.atcr.hold.completeUpload",
			strings.NewReader(`{"uploadId":"`+id+`","digest":"`+string(d)+`","parts":[{"partNumber":1}]}`))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			t.Errorf("answered %s", resp.Status)
		}
	}()
	<-ended
	// The upload's lock is free again only when the request has ended inside the hold.
	p.Spoil(nil)
	require.Eventually(t, func() bool { return w.complete(alice, id, d, part).status == http.StatusOK }, 30*time.Second, 10*time.Millisecond)
	require.True(t, bytes.Equal(blob, w.pull(nobody, alice, d, nil).body))
}

// What an endpoint was asked for it may do late: a blob that is pushed again meanwhile must not go with it.
func TestABlobIsNotPushedWhileAnEndpointThatHangsMayStillRemoveIt(t *testing.T) {
	w, p, _ := onFaultyS3(t)
	w.hold.WaitForRemovals(50 * time.Millisecond)
	blob := storagetest.Bytes(1, 1000)
	d := w.push(alice, blob)
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	p.Spoil(func(rw http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, d.Encoded()) {
			<-goOn
		}
		server.ServeHTTP(rw, r)
	})
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.deleteBlob", object{"digest": d}).status)
	id := w.begin(alice)
	part := w.part(alice, id, 1, blob)
	unavailable(t, w.complete(alice, id, d, part), "CompletionFailed")
	other := w.push(alice, []byte("another blob"))
	require.Equal(t, http.StatusTemporaryRedirect, w.getBlob(nobody, alice, other).status)
	release()
	require.Eventually(t, func() bool { return w.complete(alice, id, d, part).status == http.StatusOK }, 30*time.Second, 10*time.Millisecond)
	require.True(t, bytes.Equal(blob, w.pull(nobody, alice, d, nil).body))
}
