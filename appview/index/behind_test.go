package index_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
)

// answers lets a test answer calls to the PDS by the last part of their path; a function that says false lets the PDS
// answer.
type answers struct {
	to    atomic.Pointer[func(rw http.ResponseWriter, method string) bool]
	calls map[string]*atomic.Int32
}

func newAnswers(count ...string) *answers {
	a := &answers{calls: map[string]*atomic.Int32{}}
	for _, method := range count {
		a.calls[method] = &atomic.Int32{}
	}
	return a
}

func (a *answers) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		method := r.URL.Path[strings.LastIndex(r.URL.Path, ".")+1:]
		if n := a.calls[method]; n != nil {
			n.Add(1)
		}
		if to := a.to.Load(); to == nil || !(*to)(rw, method) {
			next.ServeHTTP(rw, r)
		}
	})
}

func refuse(rw http.ResponseWriter, name string) bool {
	rw.WriteHeader(http.StatusBadRequest)
	fmt.Fprintf(rw, `{"error":%q}`, name)
	return true
}

// A PDS drops a blob with the last record that names it: when the same bytes are pushed at that moment, the upload finds
// them and the record does not.
func TestBytesThatThePDSDroppedMeanwhileAreSentAgain(t *testing.T) {
	a := newAnswers("uploadBlob")
	w := start(t, storetest.New(t, storetest.File), servertest.Options{WrapPDS: a.wrap})
	m, _ := w.image("app", "v1", "config", "")
	var once atomic.Bool
	missing := func(rw http.ResponseWriter, method string) bool {
		return method == "applyWrites" && once.CompareAndSwap(false, true) && refuse(rw, "BlobNotFound")
	}
	a.to.Store(&missing)
	a.calls["uploadBlob"].Store(0)
	status, body := w.do(http.MethodPut, "app", "/manifests/v2", m, imageType)
	require.Equal(t, 201, status, body)
	require.EqualValues(t, 2, a.calls["uploadBlob"].Load())

	always := func(rw http.ResponseWriter, method string) bool {
		return method == "applyWrites" && refuse(rw, "BlobNotFound")
	}
	a.to.Store(&always)
	status, body = w.do(http.MethodPut, "app", "/manifests/v3", m, imageType)
	require.Equal(t, 503, status, body)
	require.Contains(t, body, "UNAVAILABLE")
}

func TestAManifestWithoutBytesIsNotThere(t *testing.T) {
	a := newAnswers()
	w := start(t, storetest.New(t, storetest.File), servertest.Options{WrapPDS: a.wrap})
	m, _ := w.image("app", "v1", "config", "")
	gone := func(rw http.ResponseWriter, method string) bool {
		return method == "getBlob" && refuse(rw, "InvalidRequest")
	}
	a.to.Store(&gone)
	for note, blob := range map[string]bool{"no reference to its bytes": false, "a reference to bytes that are gone": true} {
		body := []byte(strings.Replace(string(m), `"layers":[]`, fmt.Sprintf(`"layers":[],"annotations":{"n":%q}`, note), 1))
		d := digest.FromBytes(body)
		record := map[string]any{"repository": "app", "digest": string(d), "mediaType": imageType, "schemaVersion": 2,
			"createdAt": "2025-11-01T00:00:00Z", "holdDid": string(w.HoldDID())}
		if blob {
			record["manifestBlob"] = w.uploadBlob(body)
		}
		w.putRecord("io.atcr.manifest", d.Encoded(), record)
		w.putRecord("io.atcr.tag", "seen:"+d.Encoded()[:8], map[string]any{"repository": "seen", "tag": d.Encoded()[:8], "manifestDigest": string(d),
			"createdAt": "2025-11-01T00:00:00Z"})
		require.Eventually(t, func() bool {
			_, list := w.do(http.MethodGet, "seen", "/tags/list", nil, "")
			return strings.Contains(list, d.Encoded()[:8])
		}, 30*time.Second, 20*time.Millisecond)
		status, answer := w.do(http.MethodGet, "app", "/manifests/"+string(d), nil, "")
		require.Equal(t, 404, status, "%s: %s", note, answer)
		require.Contains(t, answer, "MANIFEST_UNKNOWN", note)
		require.Equal(t, 404, w.status(http.MethodHead, "app", "/manifests/"+string(d)), note)

		if blob {
			continue // an entry is there when its record is, and says how large it is
		}
		index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			imageType, d, len(body))
		status, answer = w.do(http.MethodPut, "app", "/manifests/all", index, "application/vnd.oci.image.index.v1+json")
		require.Equal(t, 400, status, "%s: %s", note, answer)
		require.Contains(t, answer, "MANIFEST_BLOB_UNKNOWN", note)
	}
}

// Other clients may have written hundreds of records for one tag: the newest counts, and a call takes two hundred writes.
func TestATagOfManyRecordsIsMovedAndDeleted(t *testing.T) {
	w := start(t, storetest.New(t, storetest.File), servertest.Options{})
	m, d := w.image("app", "x", "config", "")
	const records = 450
	for from := 0; from < records; from += 150 {
		var writes []any
		for i := from; i < from+150; i++ {
			writes = append(writes, map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": "io.atcr.tag", "rkey": fmt.Sprintf("old-%d", i),
				"value": map[string]any{"$type": "io.atcr.tag", "repository": "app", "tag": "v1", "manifestDigest": string(d), "createdAt": "2025-11-01T00:00:00Z"}})
		}
		w.xrpc("com.atproto.repo.applyWrites", "application/json", map[string]any{"repo": w.did(), "validate": false, "writes": writes}, nil)
	}
	require.Equal(t, 202, w.status(http.MethodDelete, "app", "/manifests/x"), "the mirror is read")
	require.Len(t, w.list("io.atcr.tag"), 50, "a page")

	other := []byte(strings.Replace(string(m), `"layers":[]`, `"layers":[],"annotations":{"n":"2"}`, 1))
	status, body := w.do(http.MethodPut, "app", "/manifests/v1", other, imageType)
	require.Equal(t, 201, status, body)
	status, body = w.do(http.MethodGet, "app", "/manifests/v1", nil, "")
	require.Equal(t, 200, status, body)
	require.Equal(t, string(other), body)

	status, body = w.do(http.MethodDelete, "app", "/manifests/v1", nil, "")
	require.Equal(t, 202, status, body)
	require.Empty(t, w.list("io.atcr.tag"), "none of them comes back")
}

func TestADeletionOfWhatAnotherAppViewHasDeletedFindsNothing(t *testing.T) {
	a := newAnswers()
	w := start(t, storetest.New(t, storetest.File), servertest.Options{WrapPDS: a.wrap})
	m, d := w.image("app", "", "config", "")
	status, body := w.do(http.MethodPut, "other", "/manifests/"+string(d), m, imageType)
	require.Equal(t, 201, status, body)
	var once atomic.Bool
	meanwhile := func(_ http.ResponseWriter, method string) bool {
		if method == "getRecord" && once.CompareAndSwap(false, true) {
			w.xrpc("com.atproto.repo.deleteRecord", "application/json", map[string]any{"repo": w.did(), "collection": "io.atcr.manifest", "rkey": d.Encoded()}, nil)
		}
		return false
	}
	a.to.Store(&meanwhile)
	status, body = w.do(http.MethodDelete, "app", "/manifests/"+string(d), nil, "")
	require.Equal(t, 404, status, body)
	require.True(t, once.Load())
}
