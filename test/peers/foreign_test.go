package peers_test

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// $type, $link and $bytes are how the AT Protocol writes what JSON cannot. In a manifest they are nothing special.
func strangeAnnotations(r *registry, handle string) {
	t := r.t
	img := randomImage(t)
	r.push(handle, handle+"/app:plain", img)
	raw, err := img.RawManifest()
	require.NoError(t, err)
	for tag, annotations := range map[string]map[string]string{
		"type": {"$type": "app.bsky.feed.post"}, "link": {"$link": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},
		"bytes": {"$bytes": "AQID"}, "empty": {"": "no name"}, "odd": {"$foo": "x", "grüße": "\u0000😀"},
	} {
		var m map[string]any
		require.NoError(t, json.Unmarshal(raw, &m))
		m["annotations"] = annotations
		m["config"].(object)["annotations"] = annotations
		for _, l := range m["layers"].([]any) {
			l.(object)["annotations"] = annotations
		}
		manifest, err := json.Marshal(m)
		require.NoError(t, err)
		said := r.putManifest(handle, "app", tag, manifest, http.StatusCreated)
		require.Equal(t, digest.FromBytes(manifest).String(), said, tag)
		r.requireManifest(manifest, handle+"/app:"+tag)
		record := r.records(handle, "io.atcr.manifest")[strings.TrimPrefix(said, "sha256:")]
		require.Equal(t, "io.atcr.manifest", record["$type"], tag)
		require.Equal(t, manifest, r.manifestBlob(handle, record), tag)
	}
}

// A PDS takes any record from its owner and from every program that the owner lets in.
func foreignRecords(r *registry, handle, other string) {
	t := r.t
	img, theirs := randomImage(t), randomImage(t)
	r.push(other, other+"/app:secret", theirs)
	r.push(handle, handle+"/app:good", img)
	good := r.records(handle, "io.atcr.manifest")[digestOf(t, img).Hex]
	require.NotNil(t, good)

	me := login(t, r.pds.URL, handle, r.pds.Account(t, handle).AppPassword)
	put := func(collection, rkey string, record object) {
		t.Helper()
		record["$type"] = collection
		me.write(t, "putRecord", object{"collection": collection, "rkey": rkey, "record": record})
	}
	const tags, manifests = "io.atcr.tag", "io.atcr.manifest"
	lie := digest.FromString("not the bytes of the blob")
	forged := object{}
	for k, v := range good {
		forged[k] = v
	}
	forged["digest"] = lie.String()
	put(manifests, lie.Encoded(), forged)
	put(manifests, "garbage", object{"layers": "none", "digest": 5, "x": object{"$link": "nope", "y": 1}, "manifestBlob": object{"$type": "blob", "ref": "x"}})
	put(tags, "garbage", object{"repository": 7, "tag": object{"$bytes": "!!"}})
	put(tags, "elsewhere", object{"repository": "app", "tag": "elsewhere", "createdAt": "2026-01-01T00:00:00Z",
		"manifest": "at://" + r.pds.Account(t, other).DID + "/io.atcr.manifest/" + digestOf(t, theirs).Hex})
	put(tags, "forged", object{"repository": "app", "tag": "forged", "createdAt": "2026-01-01T00:00:00Z",
		"manifest": "at://" + me.did + "/io.atcr.manifest/" + lie.Encoded()})
	put(tags, "path", object{"repository": "app", "tag": "../../up", "createdAt": "2026-01-01T00:00:00Z",
		"manifest": "at://" + me.did + "/io.atcr.manifest/" + digestOf(t, img).Hex})

	// Another AppView, which has not seen how these records came to be.
	fresh := *r
	fresh.appView = startAppView(t, r.pds, r.hold)
	fresh.requireImage(img, handle+"/app:good")
	listed, err := crane.ListTags(fresh.image(handle + "/app"))
	require.NoError(t, err)
	require.Contains(t, listed, "good")
	require.NotContains(t, listed, "elsewhere", "a tag names manifests of its own account only")
	require.NotContains(t, listed, "../../up", "no tag of the Distribution API")
	for _, name := range []string{"app:elsewhere", "app:forged", "app@" + lie.String()} {
		_, err := crane.Manifest(fresh.image(handle + "/" + name))
		require.Error(t, err, name)
	}
	// The owner can repair it.
	require.NoError(t, crane.Delete(fresh.image(handle+"/app:forged"), r.as(handle)))
	fresh.push(handle, handle+"/app:forged", img)
	fresh.requireImage(img, handle+"/app:forged")
}
