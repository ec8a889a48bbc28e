package peers_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/test/peers/referencepds"
)

// registry is AppView and hold over the reference PDS.
type registry struct {
	t       *testing.T
	pds     *referencepds.PDS
	hold    holdUnderTest
	appView appView
}

func startRegistry(t *testing.T, pds *referencepds.PDS, holdEnv map[string]string) *registry {
	t.Helper()
	hold := startHold(t, pds, holdEnv)
	return &registry{t, pds, hold, startAppView(t, pds, hold)}
}

// in is the same registry in a subtest.
func (r *registry) in(t *testing.T) *registry {
	other := *r
	other.t = t
	return &other
}

var publicHold = map[string]string{names.HoldPublic: "true", names.HoldAllowAllCrew: "true"}

func (r *registry) as(handle string) crane.Option {
	return crane.WithAuth(&authn.Basic{Username: handle, Password: r.pds.Account(r.t, handle).AppPassword})
}

func (r *registry) image(repository string) string { return r.appView.host + "/" + repository }

func (r *registry) push(handle, repository string, img v1.Image) {
	r.t.Helper()
	require.NoError(r.t, crane.Push(img, r.image(repository), r.as(handle)))
}

// requireImage pulls an image and compares it byte for byte, layers too.
func (r *registry) requireImage(want v1.Image, repository string, opts ...crane.Option) {
	r.t.Helper()
	got, err := crane.Pull(r.image(repository), opts...)
	require.NoError(r.t, err)
	require.NoError(r.t, validate.Image(got)) // reads every layer and compares it with its digest
	wantRaw, err := want.RawManifest()
	require.NoError(r.t, err)
	gotRaw, err := got.RawManifest()
	require.NoError(r.t, err)
	require.Equal(r.t, string(wantRaw), string(gotRaw))
}

// records of a collection as the PDS itself lists them, by record key.
func (r *registry) records(handle, collection string) map[string]object {
	r.t.Helper()
	var out struct {
		Records []struct {
			URI   string
			Value object
		}
	}
	call(r.t, http.MethodGet, r.pds.URL+"/xrpc/com.atproto.repo.listRecords?"+url.Values{
		"repo": {r.pds.Account(r.t, handle).DID}, "collection": {collection}, "limit": {"100"},
	}.Encode(), "", nil, &out)
	byKey := map[string]object{}
	for _, rec := range out.Records {
		byKey[rec.URI[strings.LastIndexByte(rec.URI, '/')+1:]] = rec.Value
	}
	return byKey
}

// manifestBlob reads the manifest's bytes from the PDS, without the AppView.
func (r *registry) manifestBlob(handle string, manifest object) []byte {
	r.t.Helper()
	ref := manifest["manifestBlob"].(object)["ref"].(object)["$link"].(string)
	return get(r.t, r.pds.URL+"/xrpc/com.atproto.sync.getBlob?"+url.Values{"did": {r.pds.Account(r.t, handle).DID}, "cid": {ref}}.Encode())
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(300_000, 2)
	require.NoError(t, err)
	return mutate.MediaType(img, types.OCIManifestSchema1)
}

func digestOf(t *testing.T, img v1.Image) v1.Hash {
	t.Helper()
	d, err := img.Digest()
	require.NoError(t, err)
	return d
}

// layersOf are the hold's layer records of a user.
func (r *registry) layersOf(handle string) []object {
	r.t.Helper()
	var out struct{ Records []struct{ Value object } }
	call(r.t, http.MethodGet, r.hold.url+"/xrpc/com.atproto.repo.listRecords?"+url.Values{
		"repo": {r.hold.did}, "collection": {"io.atcr.hold.layer"}, "limit": {"100"}}.Encode(), "", nil, &out)
	var layers []object
	for _, rec := range out.Records {
		if rec.Value["userDid"] == r.pds.Account(r.t, handle).DID {
			layers = append(layers, rec.Value)
		}
	}
	return layers
}

// token of the registry for everything in a repository.
func (r *registry) token(handle, repository string) string {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.appView.url+"/auth/token?scope=repository:"+repository+":pull,push,delete", nil)
	require.NoError(r.t, err)
	req.SetBasicAuth(handle, r.pds.Account(r.t, handle).AppPassword)
	res, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer res.Body.Close()
	require.Equal(r.t, http.StatusOK, res.StatusCode)
	var out struct{ Token string }
	require.NoError(r.t, json.NewDecoder(res.Body).Decode(&out))
	return out.Token
}

// requestToken asks for a token as a client does; user is a handle.
func requestToken(appView, user, password string) (int, http.Header, error) {
	req, err := http.NewRequest(http.MethodGet, appView+"/auth/token?scope=repository:"+user+"/app:pull,push", nil)
	if err != nil {
		return 0, nil, err
	}
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header, err
}
