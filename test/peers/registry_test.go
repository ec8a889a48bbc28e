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
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/lexicons"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/test/peers/referencepds"
)

// The path of a push and of a pull, with each account on the reference PDS. Every subtest has accounts of its own: the
// first login writes the default hold into the account's profile.
func TestTheRegistryOnTheReferencePDS(t *testing.T) {
	pds := referencepds.Start(t, referencepds.Options{Handles: []string{
		"alice.test", "bob.test", "carol.test", "dave.test", "erin.test", "frank.test", "grace.test", "heidi.test", "ivan.test",
		"judy.test", "kevin.test", "laura.test", "mike.test", "nina.test", "oscar.test",
	}})
	r := startRegistry(t, pds, publicHold)
	t.Run("an image is pushed and pulled byte for byte", func(t *testing.T) { pushAndPull(r.in(t), "alice.test", "bob.test") })
	t.Run("an image is records that the PDS serves itself", func(t *testing.T) { recordsOfAPush(r.in(t), "carol.test") })
	t.Run("a push is one commit of the firehose", func(t *testing.T) { eventsOfAPush(r.in(t), "dave.test") })
	t.Run("a manifest of 4 MiB is accepted, and one byte more is not", func(t *testing.T) { largeManifests(r.in(t), "erin.test") })
	t.Run("annotations that a PDS would read as data survive", func(t *testing.T) { strangeAnnotations(r.in(t), "judy.test") })
	t.Run("records of other programs break nothing", func(t *testing.T) { foreignRecords(r.in(t), "kevin.test", "alice.test") })
	t.Run("what is deleted is gone from the PDS and from the hold", func(t *testing.T) { deletes(r.in(t), "laura.test") })
	t.Run("what is attached is found by records alone", func(t *testing.T) { referrersByRecords(r.in(t), "mike.test") })
	t.Run("a quota holds a push before the PDS hears of it", func(t *testing.T) {
		quotas(startRegistry(t, pds, map[string]string{names.HoldPublic: "true", names.HoldAllowAllCrew: "true", names.HoldQuotaTiers: "small=1MB"}), "nina.test")
	})
	t.Run("a private hold serves its crew only", func(t *testing.T) {
		captain := map[string]string{names.HoldOwner: pds.Account(t, "frank.test").DID}
		privateHold(startRegistry(t, pds, captain), "frank.test", "grace.test", "heidi.test")
	})
	t.Run("a push goes on after the PDS was away", func(t *testing.T) { pdsAwayInAPush(r.in(t), "oscar.test") })
	t.Run("a newcomer becomes crew of a private hold by pushing", func(t *testing.T) {
		r := startRegistry(t, pds, map[string]string{names.HoldAllowAllCrew: "true"})
		img := randomImage(t)
		r.push("ivan.test", "ivan.test/app:v1", img)
		r.requireImage(img, "ivan.test/app:v1", r.as("ivan.test"))
	})
}

func pushAndPull(r *registry, captain, other string) {
	t := r.t
	first, second := randomImage(t), randomImage(t)
	r.push(captain, captain+"/team/app:v1", first)
	r.push(other, other+"/app:v1", second) // no captain: the hold takes them as crew by a service token
	r.requireImage(first, captain+"/team/app:v1")
	r.requireImage(first, captain+"/team/app@"+digestOf(t, first).String(), r.as(other))
	r.requireImage(second, strings.ReplaceAll(r.pds.Account(t, other).DID, ":", "_")+"/app:v1")

	err := crane.Push(second, r.image(captain+"/team/app:v2"), r.as(other))
	require.ErrorContains(t, err, "does not allow push", "a repository of somebody else")
	err = crane.Push(first, r.image(captain+"/team/app:v2"), crane.WithAuth(&authn.Basic{Username: captain, Password: "aaaa-bbbb-cccc-dddd"}))
	require.ErrorContains(t, err, "UNAUTHORIZED")
}

func recordsOfAPush(r *registry, handle string) {
	t := r.t
	img := randomImage(t)
	r.push(handle, handle+"/team/app:v1", img)
	raw, err := img.RawManifest()
	require.NoError(t, err)
	digest := digestOf(t, img)

	manifests := r.records(handle, "io.atcr.manifest")
	require.Len(t, manifests, 1)
	manifest := manifests[digest.Hex]
	require.NotNil(t, manifest, "the record key is the digest's hex")
	require.Equal(t, digest.String(), manifest["digest"])
	require.Equal(t, "team/app", manifest["repository"])
	require.Equal(t, r.hold.did, manifest["holdDid"])
	require.Len(t, manifest["layers"], 2)
	require.Equal(t, string(types.OCIManifestSchema1), manifest["manifestBlob"].(object)["mimeType"])
	require.Equal(t, raw, r.manifestBlob(handle, manifest))

	tags := r.records(handle, "io.atcr.tag")
	require.Len(t, tags, 1)
	for key, tag := range tags {
		require.Equal(t, "v1", tag["tag"])
		require.Equal(t, "at://"+r.pds.Account(t, handle).DID+"/io.atcr.manifest/"+digest.Hex, tag["manifest"])
		var one struct{ Value object }
		call(t, http.MethodGet, r.pds.URL+"/xrpc/com.atproto.repo.getRecord?"+url.Values{
			"repo": {handle}, "collection": {"io.atcr.tag"}, "rkey": {key}}.Encode(), "", nil, &one)
		require.Equal(t, tag, one.Value)
	}
	require.Contains(t, r.records(handle, "io.atcr.sailor.profile"), "self")
	r.requireValidRecords(handle)
	require.Eventually(t, func() bool { return len(r.layersOf(handle)) == 2 }, 30*time.Second, 100*time.Millisecond, "the hold hears of the push")
}

func eventsOfAPush(r *registry, handle string) {
	t := r.t
	did := r.pds.Account(t, handle).DID
	hose := follow(t, r.pds.URL)
	first, second := randomImage(t), randomImage(t)
	manifest := func(op string, img v1.Image) string { return op + " io.atcr.manifest/" + digestOf(t, img).Hex }

	r.push(handle, handle+"/app:latest", first)
	commit := hose.nextCommit(did)
	for !slices.Contains(ops(commit), manifest("create", first)) { // the account's first commit, the profile
		commit = hose.nextCommit(did)
	}
	require.Len(t, ops(commit), 2, "manifest and tag become visible together: %v", ops(commit))
	tag := ops(commit)[slices.IndexFunc(ops(commit), func(op string) bool { return strings.HasPrefix(op, "create io.atcr.tag/") })]

	r.push(handle, handle+"/app:latest", second)
	commit = hose.nextCommit(did)
	require.ElementsMatch(t, []string{manifest("create", second), strings.Replace(tag, "create", "update", 1)}, ops(commit))
	r.requireImage(second, handle+"/app:latest")
	r.requireImage(first, handle+"/app@"+digestOf(t, first).String())

	// Two tags that differ in what a record key cannot hold stay apart.
	r.push(handle, handle+"/a/b:c", first)
	r.push(handle, handle+"/a-b:c", second)
	r.requireImage(first, handle+"/a/b:c")
	r.requireImage(second, handle+"/a-b:c")
	require.Len(t, r.records(handle, "io.atcr.tag"), 3)

	require.NoError(t, crane.Delete(r.image(handle+"/app:latest"), r.as(handle)))
	require.Len(t, r.records(handle, "io.atcr.tag"), 2)
	_, err := crane.Pull(r.image(handle+"/app:latest"), r.as(handle))
	require.ErrorContains(t, err, "MANIFEST_UNKNOWN")
}

// The PDS takes blobs of 5 MiB and requests of about 1 MB; the registry promises manifests of 4 MiB.
func largeManifests(r *registry, handle string) {
	const limit = 4 << 20
	t := r.t
	img := randomImage(t)
	r.push(handle, handle+"/app:small", img)
	raw, err := img.RawManifest()
	require.NoError(t, err)

	big := padded(t, raw, limit)
	digest := r.putManifest(handle, "app", "big", big, http.StatusCreated)
	r.requireManifest(big, handle+"/app:big")
	record := r.records(handle, "io.atcr.manifest")[strings.TrimPrefix(digest, "sha256:")]
	require.NotNil(t, record)
	require.True(t, bytes.Equal(big, r.manifestBlob(handle, record)))

	r.putManifest(handle, "app", "bigger", padded(t, raw, limit+1), http.StatusRequestEntityTooLarge)
	_, err = crane.Manifest(r.image(handle + "/app:bigger"))
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
	const manyTags = 90 // records lists 100
	tags := "wide"
	for n := range manyTags - 1 {
		tags += fmt.Sprintf("%ctag=%s-%d", "?&"[min(n, 1)], strings.Repeat("t", 100), n)
	}
	r.putManifest(handle, "app", tags, manyLayers, http.StatusCreated)
	r.requireManifest(manyLayers, handle+"/app:wide")
	require.Len(t, r.records(handle, "io.atcr.tag"), 2+manyTags, "small, big and those")
	r.requireValidRecords(handle)
}

// requireValidRecords checks what the PDS has of our collections against their lexicons.
func (r *registry) requireValidRecords(handle string) {
	r.t.Helper()
	for _, collection := range []string{"io.atcr.manifest", "io.atcr.tag", "io.atcr.sailor.profile"} {
		records := r.records(handle, collection)
		require.NotEmpty(r.t, records, collection)
		for key, value := range records {
			b, err := json.Marshal(value)
			require.NoError(r.t, err)
			id, err := lexicons.Validate(b)
			require.NoError(r.t, err, key)
			require.Equal(r.t, collection, id)
		}
	}
}

// putManifest pushes bytes that no client would make, and returns their digest as the registry says it.
func (r *registry) putManifest(handle, repository, tag string, manifest []byte, status int) string {
	r.t.Helper()
	address := r.appView.url + "/v2/" + handle + "/" + repository + "/manifests/" + tag
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPut, address, bytes.NewReader(manifest))
	require.NoError(r.t, err)
	req.Header.Set("Content-Type", string(types.OCIManifestSchema1))
	req.Header.Set("Authorization", "Bearer "+r.token(handle, handle+"/"+repository))
	res, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(r.t, err)
	require.Equal(r.t, status, res.StatusCode, "%s", answer)
	return res.Header.Get("Docker-Content-Digest")
}

func (r *registry) requireManifest(want []byte, repository string) {
	r.t.Helper()
	got, err := crane.Manifest(r.image(repository))
	require.NoError(r.t, err)
	require.True(r.t, bytes.Equal(want, got), "not the bytes that were pushed")
}

// padded makes a manifest size bytes long with a field that nobody knows: annotations have a limit of their own.
func padded(t *testing.T, raw []byte, size int) []byte {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	m["testPadding"] = ""
	out, err := json.Marshal(m)
	require.NoError(t, err)
	m["testPadding"] = strings.Repeat("x", size-len(out))
	out, err = json.Marshal(m)
	require.NoError(t, err)
	require.Len(t, out, size)
	return out
}

func privateHold(r *registry, captain, member, stranger string) {
	t := r.t
	img := randomImage(t)
	r.push(captain, captain+"/private:v1", img)
	r.requireImage(img, captain+"/private:v1", r.as(captain))
	require.ErrorContains(t, crane.Push(img, r.image(member+"/app:v1"), r.as(member)), "DENIED", "not yet a member")

	r.hold.addCrew(t, r.pds, captain, member, "blob:write")
	r.push(member, member+"/app:v1", img)
	r.requireImage(img, captain+"/private:v1", r.as(member))

	layers, err := img.Layers()
	require.NoError(t, err)
	digest, err := layers[0].Digest()
	require.NoError(t, err)
	for who, opts := range map[string][]crane.Option{"nobody": nil, stranger: {r.as(stranger)}} {
		layer, err := crane.PullLayer(r.image(captain+"/private@"+digest.String()), opts...)
		require.NoError(t, err) // asks for nothing yet
		_, err = layer.Compressed()
		require.Error(t, err, "%s reads a layer of a private hold", who)
	}
}

// A kubelet logs in for every pull, and the reference PDS takes 30 logins in five minutes. Wrong passwords use that up
// for the account; what is told then is not that the password is wrong.
func TestTheRegistryIsGentleToAPDSWithLimits(t *testing.T) {
	pds := referencepds.Start(t, referencepds.Options{RateLimits: true})
	r := startRegistry(t, pds, publicHold)
	const createSession = "com.atproto.server.createSession"

	t.Run("a thousand tokens cost one login", func(t *testing.T) {
		alice, before := pds.Account(t, "alice.test"), pds.Count(createSession, 0)
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
		require.Equal(t, 1, pds.Count(createSession, 0)-before)
	})

	t.Run("the limit is told when it is reached", func(t *testing.T) {
		for n := range 40 {
			status, header, err := requestToken(r.appView.url, "bob.test", fmt.Sprintf("aaaa-bbbb-cccc-%04d", n))
			require.NoError(t, err)
			if status == http.StatusTooManyRequests {
				require.NotZero(t, n, "the first wrong password is a wrong password")
				require.NotEmpty(t, header.Get("Retry-After"))
				return
			}
			require.Equal(t, http.StatusUnauthorized, status)
		}
		t.Fatalf("never; the PDS refused %d logins by its limit", pds.Count(createSession, http.StatusTooManyRequests))
	})
}

func TestPullsGoOnWhileThePDSIsDown(t *testing.T) {
	pds := referencepds.Start(t, referencepds.Options{})
	r := startRegistry(t, pds, publicHold)
	img := randomImage(t)
	r.push("alice.test", "alice.test/app:v1", img)
	r.requireImage(img, "alice.test/app:v1")
	pds.Stop()
	r.requireImage(img, "alice.test/app:v1")
	r.requireImage(img, "alice.test/app@"+digestOf(t, img).String())
	r.requireImage(img, "alice.test/app:v1", r.as("alice.test"))
	require.Error(t, crane.Push(randomImage(t), r.image("alice.test/app:v2"), r.as("alice.test")), "nothing is acknowledged before the PDS has it")
}
