package peers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

func startRegistry(t *testing.T, opts referencepds.Options, holdEnv map[string]string) *registry {
	t.Helper()
	pds := referencepds.Start(t, opts)
	hold := startHold(t, pds, holdEnv)
	return &registry{t, pds, hold, startAppView(t, pds, hold)}
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

func TestAnImageIsPushedAndPulledWithAccountsOfTheReferencePDS(t *testing.T) {
	r := startRegistry(t, referencepds.Options{}, publicHold)
	alice, bob := randomImage(t), randomImage(t)
	r.push("alice.test", "alice.test/team/app:v1", alice)
	r.push("bob.test", "bob.test/app:v1", bob) // no captain: the hold takes bob as crew by a service token
	r.requireImage(alice, "alice.test/team/app:v1")
	r.requireImage(alice, "alice.test/team/app@"+digestOf(t, alice).String(), r.as("bob.test"))
	r.requireImage(bob, strings.ReplaceAll(r.pds.Account(t, "bob.test").DID, ":", "_")+"/app:v1")

	err := crane.Push(bob, r.image("alice.test/team/app:v2"), r.as("bob.test"))
	require.ErrorContains(t, err, "does not allow push", "a repository of somebody else")
	err = crane.Push(alice, r.image("alice.test/team/app:v2"), crane.WithAuth(&authn.Basic{Username: "alice.test", Password: "aaaa-bbbb-cccc-dddd"}))
	require.ErrorContains(t, err, "UNAUTHORIZED")
}

func TestAnImageIsRecordsThatThePDSServesItself(t *testing.T) {
	r := startRegistry(t, referencepds.Options{}, publicHold)
	img := randomImage(t)
	r.push("alice.test", "alice.test/team/app:v1", img)
	raw, err := img.RawManifest()
	require.NoError(t, err)
	digest := digestOf(t, img)

	manifests := r.records("alice.test", "io.atcr.manifest")
	require.Len(t, manifests, 1)
	manifest := manifests[digest.Hex]
	require.NotNil(t, manifest, "the record key is the digest's hex")
	require.Equal(t, digest.String(), manifest["digest"])
	require.Equal(t, "team/app", manifest["repository"])
	require.Equal(t, r.hold.did, manifest["holdDid"])
	require.Len(t, manifest["layers"], 2)
	require.Equal(t, string(types.OCIManifestSchema1), manifest["manifestBlob"].(object)["mimeType"])
	require.Equal(t, raw, r.manifestBlob("alice.test", manifest))

	tags := r.records("alice.test", "io.atcr.tag")
	require.Len(t, tags, 1)
	for key, tag := range tags {
		require.Equal(t, "v1", tag["tag"])
		require.Equal(t, "at://"+r.pds.Account(t, "alice.test").DID+"/io.atcr.manifest/"+digest.Hex, tag["manifest"])
		var one struct{ Value object }
		call(t, http.MethodGet, r.pds.URL+"/xrpc/com.atproto.repo.getRecord?"+url.Values{
			"repo": {"alice.test"}, "collection": {"io.atcr.tag"}, "rkey": {key}}.Encode(), "", nil, &one)
		require.Equal(t, tag, one.Value)
	}
	require.Contains(t, r.records("alice.test", "io.atcr.sailor.profile"), "self")
	require.Eventually(t, func() bool { return len(r.layers()) == 2 }, 30*time.Second, 100*time.Millisecond, "the hold hears of the push")
}

// layers are the hold's layer records.
func (r *registry) layers() []object {
	r.t.Helper()
	var out struct{ Records []struct{ Value object } }
	call(r.t, http.MethodGet, r.hold.url+"/xrpc/com.atproto.repo.listRecords?"+url.Values{
		"repo": {r.hold.did}, "collection": {"io.atcr.hold.layer"}, "limit": {"100"}}.Encode(), "", nil, &out)
	var layers []object
	for _, rec := range out.Records {
		layers = append(layers, rec.Value)
	}
	return layers
}

func TestAPushIsOneCommitOfTheFirehose(t *testing.T) {
	r := startRegistry(t, referencepds.Options{}, publicHold)
	did := r.pds.Account(t, "alice.test").DID
	hose := follow(t, r.pds.URL)
	first, second := randomImage(t), randomImage(t)
	manifest := func(op string, img v1.Image) string { return op + " io.atcr.manifest/" + digestOf(t, img).Hex }

	r.push("alice.test", "alice.test/app:latest", first)
	commit := hose.nextCommit(did)
	for !slices.Contains(ops(commit), manifest("create", first)) { // the account's first commit, the profile
		commit = hose.nextCommit(did)
	}
	require.Len(t, ops(commit), 2, "manifest and tag become visible together: %v", ops(commit))
	tag := ops(commit)[slices.IndexFunc(ops(commit), func(op string) bool { return strings.HasPrefix(op, "create io.atcr.tag/") })]

	r.push("alice.test", "alice.test/app:latest", second)
	commit = hose.nextCommit(did)
	require.ElementsMatch(t, []string{manifest("create", second), strings.Replace(tag, "create", "update", 1)}, ops(commit))
	r.requireImage(second, "alice.test/app:latest")
	r.requireImage(first, "alice.test/app@"+digestOf(t, first).String())

	// Two tags that differ in what a record key cannot hold stay apart.
	r.push("alice.test", "alice.test/a/b:c", first)
	r.push("alice.test", "alice.test/a-b:c", second)
	r.requireImage(first, "alice.test/a/b:c")
	r.requireImage(second, "alice.test/a-b:c")
	require.Len(t, r.records("alice.test", "io.atcr.tag"), 3)

	require.NoError(t, crane.Delete(r.image("alice.test/app:latest"), r.as("alice.test")))
	require.Len(t, r.records("alice.test", "io.atcr.tag"), 2)
	_, err := crane.Pull(r.image("alice.test/app:latest"), r.as("alice.test"))
	require.ErrorContains(t, err, "MANIFEST_UNKNOWN")
}

func TestAPrivateHoldServesItsCrewOnly(t *testing.T) {
	r := startRegistry(t, referencepds.Options{Handles: []string{"alice.test", "bob.test", "carol.test"}}, nil)
	img := randomImage(t)
	r.push("alice.test", "alice.test/app:v1", img)
	r.requireImage(img, "alice.test/app:v1", r.as("alice.test"))
	require.ErrorContains(t, crane.Push(img, r.image("bob.test/app:v1"), r.as("bob.test")), "DENIED", "bob is no crew")

	r.hold.addCrew(t, r.pds, "alice.test", "bob.test", "blob:write")
	r.push("bob.test", "bob.test/app:v1", img)
	r.requireImage(img, "alice.test/app:v1", r.as("bob.test"))

	for who, opts := range map[string][]crane.Option{"nobody": nil, "carol": {r.as("carol.test")}} {
		layers, err := img.Layers()
		require.NoError(t, err)
		digest, err := layers[0].Digest()
		require.NoError(t, err)
		layer, err := crane.PullLayer(r.image("alice.test/app@"+digest.String()), opts...)
		if err == nil {
			var content io.ReadCloser
			if content, err = layer.Compressed(); err == nil {
				content.Close()
			}
		}
		require.Error(t, err, "%s reads a layer of a private hold", who)
	}
}

func TestANewcomerBecomesCrewOfAPrivateHoldByPushing(t *testing.T) {
	r := startRegistry(t, referencepds.Options{}, map[string]string{names.HoldAllowAllCrew: "true"})
	img := randomImage(t)
	r.push("bob.test", "bob.test/app:v1", img)
	r.requireImage(img, "bob.test/app:v1", r.as("bob.test"))
}

// A kubelet logs in for every pull, and the reference PDS takes 30 logins in five minutes.
func TestAThousandTokensCostOneLogin(t *testing.T) {
	r := startRegistry(t, referencepds.Options{RateLimits: true}, publicHold)
	alice := r.pds.Account(t, "alice.test")
	var workers sync.WaitGroup
	failures := make(chan string, 1000)
	for range 20 {
		workers.Go(func() {
			for range 50 {
				if status, _, err := requestToken(r.appView.url, alice.Handle, alice.AppPassword); err != nil || status != http.StatusOK {
					failures <- fmt.Sprint(status, err)
				}
			}
		})
	}
	workers.Wait()
	close(failures)
	for f := range failures {
		t.Error(f)
	}
	require.Equal(t, 1, r.pds.Count("com.atproto.server.createSession", 0))
}

// Wrong passwords use up the limit of the PDS; what the PDS then says is not that the password is wrong.
func TestALimitOfThePDSIsTold(t *testing.T) {
	r := startRegistry(t, referencepds.Options{RateLimits: true}, publicHold)
	var statuses []int
	for n := range 40 {
		status, header, err := requestToken(r.appView.url, "alice.test", fmt.Sprintf("aaaa-bbbb-cccc-%04d", n))
		require.NoError(t, err)
		if status == http.StatusTooManyRequests {
			require.NotEmpty(t, header.Get("Retry-After"))
			require.NotEmpty(t, statuses, "the first wrong password is a wrong password")
			return
		}
		require.Equal(t, http.StatusUnauthorized, status)
		statuses = append(statuses, status)
	}
	t.Fatalf("the limit of the PDS was never told; %d logins were refused by it", r.pds.Count("com.atproto.server.createSession", http.StatusTooManyRequests))
}

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

// The PDS takes blobs of 5 MiB and records of about 1 MB; the registry promises manifests of 4 MiB.
func TestAManifestOf4MiBIsAcceptedAndOneByteMoreIsNot(t *testing.T) {
	const limit = 4 << 20
	r := startRegistry(t, referencepds.Options{}, publicHold)
	img := randomImage(t)
	r.push("alice.test", "alice.test/app:small", img)
	raw, err := img.RawManifest()
	require.NoError(t, err)

	put := func(tag string, manifest []byte) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.appView.url+"/v2/alice.test/app/manifests/"+tag, bytes.NewReader(manifest))
		require.NoError(t, err)
		req.Header.Set("Content-Type", string(types.OCIManifestSchema1))
		req.Header.Set("Authorization", "Bearer "+r.token("alice.test", "alice.test/app"))
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	big := padded(t, raw, limit)
	res := put("big", big)
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, res.StatusCode, "%s", answer)
	got, err := crane.Manifest(r.image("alice.test/app:big"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, got), "the bytes that were pushed")
	record := r.records("alice.test", "io.atcr.manifest")[strings.TrimPrefix(res.Header.Get("Docker-Content-Digest"), "sha256:")]
	require.NotNil(t, record)
	require.True(t, bytes.Equal(big, r.manifestBlob("alice.test", record)))

	require.Equal(t, http.StatusRequestEntityTooLarge, put("bigger", padded(t, raw, limit+1)).StatusCode)
	_, err = crane.Manifest(r.image("alice.test/app:bigger"))
	require.Error(t, err)

	// Many small parts of a manifest are as heavy for a record as one large.
	var wide struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		Config        json.RawMessage   `json:"config"`
		Layers        []json.RawMessage `json:"layers"`
	}
	require.NoError(t, json.Unmarshal(raw, &wide))
	for range 6_000 {
		wide.Layers = append(wide.Layers, wide.Layers[0])
	}
	manyLayers, err := json.Marshal(wide)
	require.NoError(t, err)
	res = put("wide", manyLayers)
	answer, err = io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, res.StatusCode, "%s", answer)
	got, err = crane.Manifest(r.image("alice.test/app:wide"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(manyLayers, got))
}

// padded makes a manifest size bytes long with an annotation.
func padded(t *testing.T, raw []byte, size int) []byte {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	m["annotations"] = map[string]string{"test.padding": ""}
	out, err := json.Marshal(m)
	require.NoError(t, err)
	m["annotations"] = map[string]string{"test.padding": strings.Repeat("x", size-len(out))}
	out, err = json.Marshal(m)
	require.NoError(t, err)
	require.Len(t, out, size)
	return out
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

func TestPullsGoOnWhileThePDSIsDown(t *testing.T) {
	r := startRegistry(t, referencepds.Options{}, publicHold)
	img := randomImage(t)
	r.push("alice.test", "alice.test/app:v1", img)
	r.requireImage(img, "alice.test/app:v1")
	r.pds.Stop()
	r.requireImage(img, "alice.test/app:v1")
	r.requireImage(img, "alice.test/app@"+digestOf(t, img).String())
	r.requireImage(img, "alice.test/app:v1", r.as("alice.test"))
	require.Error(t, crane.Push(randomImage(t), r.image("alice.test/app:v2"), r.as("alice.test")), "nothing is acknowledged before the PDS has it")
}
