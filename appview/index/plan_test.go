package index_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
)

func TestAPDSThatFailsForAReasonOfItsOwnIsNotTakenForAConflict(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		var fail atomic.Bool
		var asked atomic.Int32
		w := start(t, e, servertest.Options{WrapPDS: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if fail.Load() && strings.HasSuffix(r.URL.Path, "applyWrites") {
					asked.Add(1)
					rw.WriteHeader(http.StatusInternalServerError)
					return
				}
				next.ServeHTTP(rw, r)
			})
		}})
		m, _ := w.image("app", "v1", "config", "")
		fail.Store(true)
		status, body := w.do(http.MethodPut, "app", "/manifests/v2", m, imageType)
		require.Equal(t, 503, status, body)
		require.Contains(t, body, "PDS")
		require.EqualValues(t, 1, asked.Load(), "planning again came to the same writes")
		fail.Store(false)
		status, body = w.do(http.MethodPut, "app", "/manifests/v2", m, imageType)
		require.Equal(t, 201, status, body)
	})
}

func TestAnEntryThatGoesBeforeTheIndexIsWritten(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		var w *world
		var armed atomic.Bool
		var entry digest.Digest
		w = start(t, e, servertest.Options{WrapPDS: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				// The bytes of the index arrive after its entries were looked for: another AppView deletes one now.
				if strings.HasSuffix(r.URL.Path, "uploadBlob") && armed.CompareAndSwap(true, false) {
					w.xrpc("com.atproto.repo.deleteRecord", "application/json", map[string]any{"repo": w.did(),
						"collection": "io.atcr.manifest", "rkey": entry.Encoded()}, nil)
				}
				next.ServeHTTP(rw, r)
			})
		}})
		m, d := w.image("app", "", "config", "")
		entry = d
		body := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"` + imageType +
			`","digest":"` + string(d) + `","size":` + strconv.Itoa(len(m)) + `}]}`)
		armed.Store(true)
		status, answer := w.do(http.MethodPut, "app", "/manifests/all", body, "application/vnd.oci.image.index.v1+json")
		require.Equal(t, 400, status, answer)
		require.Contains(t, answer, "MANIFEST_BLOB_UNKNOWN")
		require.Contains(t, answer, string(d))
		require.Equal(t, 404, w.status(http.MethodGet, "app", "/manifests/all"))

		w.image("app", "", "config", "")
		wrong := []byte(strings.Replace(string(body), `"size":`+strconv.Itoa(len(m)), `"size":1`, 1))
		status, answer = w.do(http.MethodPut, "app", "/manifests/all", wrong, "application/vnd.oci.image.index.v1+json")
		require.Equal(t, 400, status, answer)
		require.Contains(t, answer, "has 1 bytes, but it has "+strconv.Itoa(len(m)))
		status, answer = w.do(http.MethodPut, "app", "/manifests/all", body, "application/vnd.oci.image.index.v1+json")
		require.Equal(t, 201, status, answer)
	})
}
