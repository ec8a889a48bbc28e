package holdclient_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/holdclient"
)

func TestAHoldThatKnowsNoReservationIsAskedForItsQuota(t *testing.T) {
	for name, refuse := range map[string]int{"not found": 404, "not implemented": 501} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			quota := `{"userDid":"did:plc:x","uniqueBlobs":1,"totalSize":9,"limit":10}`
			f := newForeign(t, func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.URL.Path[strings.LastIndexByte(r.URL.Path, '.')+1:])
				w.Header().Set("Content-Type", "application/json")
				if strings.HasSuffix(r.URL.Path, "reserveManifest") {
					w.WriteHeader(refuse)
					fmt.Fprint(w, `{"error":"MethodNotImplemented"}`)
					return
				}
				fmt.Fprint(w, quota)
			})
			h := f.resolve(t)
			reserve := func() error {
				known, err := f.client.Reserve(t.Context(), h, alice, digest.FromString("m"), holdclient.ManifestInfo{})
				require.False(t, known)
				return err
			}
			require.NoError(t, reserve())
			quota = `{"totalSize":10,"limit":10}`
			kind, ok := holdclient.KindOf(reserve())
			require.True(t, ok)
			require.Equal(t, holdclient.QuotaExceeded, kind)
			quota = `{"totalSize":1000}`
			require.NoError(t, reserve(), "no limit")
			quota = `not JSON`
			require.NoError(t, reserve(), "a hold without quotas")
			require.Equal(t, []string{"reserveManifest", "getQuota", "getQuota", "getQuota", "getQuota"}, asked, "it is not asked again for what it does not know")
		})
	}
}

func TestARefusedReservationSaysWhy(t *testing.T) {
	answer, status := `{"error":"QuotaExceeded","message":"secret","totalSize":6,"needed":5,"limit":10}`, 403
	f := newForeign(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	})
	h := f.resolve(t)
	for _, tt := range []struct {
		answer string
		status int
		kind   holdclient.Kind
		detail holdclient.Detail
	}{
		{answer, 403, holdclient.QuotaExceeded, holdclient.Detail{TotalSize: 6, Needed: 5, Limit: 10}},
		{`{"error":"BlobNotFound","digest":"sha256:x"}`, 404, holdclient.NotFound, holdclient.Detail{Digest: "sha256:x"}},
		{`{"error":"SizeMismatch","digest":"sha256:x","size":3}`, 400, holdclient.OtherSize, holdclient.Detail{Digest: "sha256:x", Size: 3}},
	} {
		answer, status = tt.answer, tt.status
		known, err := f.client.Reserve(t.Context(), h, alice, digest.FromString("m"), holdclient.ManifestInfo{})
		require.True(t, known)
		var e *holdclient.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, tt.kind, e.Kind)
		require.Equal(t, tt.detail, e.Detail)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestADeletionIsNothingToAHoldThatDoesNotKnowIt(t *testing.T) {
	f := newForeign(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"InvalidOperation"}`)
	})
	require.NoError(t, f.client.Notify(t.Context(), f.resolve(t), alice, holdclient.Notification{Operation: "delete"}))
	require.Error(t, f.client.Notify(t.Context(), f.resolve(t), alice, holdclient.Notification{Operation: "push"}))
}
