package index_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
)

func TestAManifestWithMoreTagsThanAPDSTakesInOneCallIsDeletedWithAllOfThem(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		m, d := w.image("app", "v", "config", "")
		for i := range 3 {
			var tags []string
			for j := range 90 {
				tags = append(tags, fmt.Sprintf("tag=t%d-%d", i, j))
			}
			status, body := w.do(http.MethodPut, "app", "/manifests/"+string(d)+"?"+strings.Join(tags, "&"), m, imageType)
			require.Equal(t, 201, status, body)
		}
		status, body := w.do(http.MethodDelete, "app", "/manifests/"+string(d), nil, "")
		require.Equal(t, 202, status, body)
		require.Empty(t, w.list("io.atcr.tag"))
		require.Empty(t, w.list("io.atcr.manifest"))
	})
}

func TestATagThatAppearsWhileTheRecordsAreListedNamesAManifestThatIsListedToo(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		var w *world
		var armed atomic.Bool
		var second []byte
		w = start(t, e, servertest.Options{WrapPDS: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(rw, r)
				// Between the listing of one collection and the other, another AppView pushes.
				if strings.HasSuffix(r.URL.Path, "listRecords") && strings.HasPrefix(r.URL.Query().Get("collection"), "io.atcr.") && armed.CompareAndSwap(true, false) {
					d := digest.FromBytes(second)
					w.putRecord("io.atcr.manifest", d.Encoded(), map[string]any{"repository": "app", "digest": string(d), "mediaType": imageType,
						"schemaVersion": 2, "createdAt": "2025-11-01T00:00:00Z", "holdDid": string(w.HoldDID()), "manifestBlob": w.uploadBlob(second)})
					w.putRecord("io.atcr.tag", "app_v1", map[string]any{"repository": "app", "tag": "v1", "manifestDigest": string(d),
						"createdAt": "2025-11-01T00:00:00Z"})
				}
			})
		}})
		first, _ := w.image("other", "x", "config", "")
		second = []byte(strings.Replace(string(first), `"layers":[]`, `"layers":[],"annotations":{"n":"2"}`, 1))
		w.putRecord("io.atcr.manifest", digest.FromBytes(first).Encoded(), map[string]any{"repository": "app", "digest": string(digest.FromBytes(first)),
			"mediaType": imageType, "schemaVersion": 2, "createdAt": "2025-11-01T00:00:00Z", "holdDid": string(w.HoldDID()), "manifestBlob": w.uploadBlob(first)})
		w.putRecord("io.atcr.tag", "app_v1", map[string]any{"repository": "app", "tag": "v1", "manifestDigest": string(digest.FromBytes(first)), "createdAt": "2025-11-01T00:00:00Z"})
		armed.Store(true)
		require.Eventually(t, func() bool {
			status, body := w.do(http.MethodGet, "app", "/manifests/v1", nil, "")
			require.Contains(t, []int{200, 404}, status)
			require.False(t, status == 404 && !armed.Load(), "the tag was seen without its manifest: %s", body)
			return status == 200 && body == string(second)
		}, time.Minute, 20*time.Millisecond)
	})
}

func TestTheHoldOfALegacyRecordIsKeptWhenTheProfileIsMade(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{AppViewEnv: map[string]string{names.DefaultHoldDID: "did:web:hold.example.com"}})
		u, err := url.Parse(w.HoldURL)
		require.NoError(t, err)
		w.putRecord("io.atcr.hold", "mine", map[string]any{"endpoint": u.String(), "owner": w.did(), "createdAt": "2025-11-01T00:00:00Z"})
		w.Token(servertest.Alice)
		profiles := w.list("io.atcr.sailor.profile")
		require.Len(t, profiles, 1)
		require.Equal(t, string(w.HoldDID()), profiles[0].Value["defaultHold"])
		w.image("app", "v1", "config", "")
	})
}

func TestAnEntryOfAnIndexIsNotDeletedBeforeTheIndex(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		m, d := w.image("app", "", "config", "")
		index := w.index("app", "all", m)
		status, body := w.do(http.MethodDelete, "app", "/manifests/"+string(d), nil, "")
		require.Equal(t, 409, status, body)
		require.Contains(t, body, "Delete the index first.")
		require.Equal(t, 200, w.status(http.MethodGet, "app", "/manifests/"+string(d)), "the index is whole")

		require.Equal(t, 202, w.status(http.MethodDelete, "app", "/manifests/"+string(index)))
		require.Equal(t, 202, w.status(http.MethodDelete, "app", "/manifests/"+string(d)))
		require.Equal(t, 404, w.status(http.MethodGet, "app", "/manifests/"+string(d)))
	})
}

// A list of a hundred thousand tags takes longer than a request waits. What is known is answered from the mirror
// meanwhile; that something is not there is not said before the list was read, or not at all.
func TestNothingIsSaidToBeAbsentBeforeThePDSWasAsked(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		var held atomic.Pointer[chan struct{}]
		var waiting, down atomic.Bool
		w := start(t, e, servertest.Options{WrapPDS: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if until := held.Load(); until != nil && strings.HasSuffix(r.URL.Path, "listRecords") {
					waiting.Store(true)
					select {
					case <-*until:
					case <-r.Context().Done():
						return
					}
				}
				if down.Load() && strings.HasSuffix(r.URL.Path, "getLatestCommit") {
					rw.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				next.ServeHTTP(rw, r)
			})
		}})
		_, d := w.image("app", "v1", "config", "")
		release := make(chan struct{})
		held.Store(&release)
		w.putRecord("io.atcr.tag", "app_v2", map[string]any{"repository": "app", "tag": "v2", "manifestDigest": string(d), "createdAt": "2025-11-01T00:00:00Z"})
		require.Eventually(t, func() bool {
			require.Equal(t, 200, w.status(http.MethodGet, "app", "/manifests/v1"))
			return waiting.Load()
		}, time.Minute, 20*time.Millisecond, "the mirror is read again when it is old")
		answer := make(chan int)
		go func() { answer <- w.status(http.MethodGet, "app", "/manifests/v2") }()
		for range 3 {
			require.Equal(t, 200, w.status(http.MethodGet, "app", "/manifests/v1"), "what is known does not wait for long")
		}
		close(release)
		require.Equal(t, 200, <-answer, "who asks for something new waits for the list")

		down.Store(true)
		require.Eventually(t, func() bool { return w.status(http.MethodGet, "app", "/manifests/none") == 503 }, time.Minute, 20*time.Millisecond,
			"once the mirror is old, the answer is to try again")
		require.Equal(t, 200, w.status(http.MethodGet, "app", "/manifests/v1"))
	})
}

func TestAManifestInAsManyRepositoriesAsARecordListsIsTakenInNoMore(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		w := start(t, e, servertest.Options{})
		body, d := w.image("zzz", "v1", "config", "")
		records := w.list("io.atcr.manifest")
		require.Len(t, records, 1)
		names := []string{"zzz"}
		for n := range 499 {
			names = append(names, fmt.Sprintf("app%03d", n))
		}
		record := records[0].Value
		record["repositories"] = names
		w.putRecord("io.atcr.manifest", d.Encoded(), record)
		require.Eventually(t, func() bool { return w.status(http.MethodGet, "app498", "/manifests/"+string(d)) == 200 }, 30*time.Second, 20*time.Millisecond)

		status, answer := w.do(http.MethodPut, "app/more", "/manifests/"+string(d), body, imageType)
		require.Equal(t, http.StatusBadRequest, status, answer)
		require.Contains(t, answer, "in as many repositories as one record can list")
		status, answer = w.do(http.MethodPut, "app000", "/manifests/v2", body, imageType)
		require.Equal(t, http.StatusCreated, status, "one where it is already: %s", answer)
		require.Equal(t, 200, w.status(http.MethodGet, "zzz", "/manifests/"+string(d)))
	})
}
