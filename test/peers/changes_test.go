package peers_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"
)

// How long what follows a push or a delete by the outbox may take.
const (
	soon = 60 * time.Second
	tick = 100 * time.Millisecond
)

// A manifest goes with its tags, in one commit, and its layers' records follow.
func deletes(r *registry, handle string) {
	t := r.t
	kept, gone := randomImage(t), randomImage(t)
	r.push(handle, handle+"/app:kept", kept)
	r.push(handle, handle+"/app:one", gone)
	r.push(handle, handle+"/app:two", gone)
	require.Eventually(t, func() bool { return len(r.layersOf(handle)) == 4 }, soon, tick, "the hold hears of the pushes")
	tags := r.records(handle, "io.atcr.tag")
	require.Len(t, tags, 3)

	hose := follow(t, r.pds.URL)
	hose.unverified = true
	require.NoError(t, crane.Delete(r.image(handle+"/app@"+digestOf(t, gone).String()), r.as(handle)))
	want := []string{"delete io.atcr.manifest/" + digestOf(t, gone).Hex}
	for rkey, tag := range tags {
		if tag["tag"] != "kept" {
			want = append(want, "delete io.atcr.tag/"+rkey)
		}
	}
	did := r.pds.Account(t, handle).DID
	commit := hose.nextCommit(did)
	for !slices.Contains(ops(commit), want[0]) {
		commit = hose.nextCommit(did)
	}
	require.ElementsMatch(t, want, ops(commit))
	require.Len(t, r.records(handle, "io.atcr.manifest"), 1)
	require.Len(t, r.records(handle, "io.atcr.tag"), 1)
	for _, ref := range []string{":one", ":two", "@" + digestOf(t, gone).String()} {
		_, err := crane.Manifest(r.image(handle + "/app" + ref))
		require.ErrorContains(t, err, "MANIFEST_UNKNOWN", ref)
	}
	r.requireImage(kept, handle+"/app:kept")
	require.Eventually(t, func() bool { return len(r.layersOf(handle)) == 2 }, soon, tick, "the hold hears of the delete")
}

func referrersByRecords(r *registry, handle string) {
	const signature = "application/vnd.example.signature"
	t := r.t
	img := randomImage(t)
	r.push(handle, handle+"/app:v1", img)
	raw, err := img.RawManifest()
	require.NoError(t, err)
	subject := object{"mediaType": string(types.OCIManifestSchema1), "digest": digestOf(t, img).String(), "size": len(raw)}
	var m object
	require.NoError(t, json.Unmarshal(raw, &m))
	m["subject"], m["artifactType"] = subject, signature
	attached, err := json.Marshal(m)
	require.NoError(t, err)
	digest := r.putManifest(handle, "app", "signature", attached, http.StatusCreated)
	record := r.records(handle, "io.atcr.manifest")[strings.TrimPrefix(digest, "sha256:")]
	require.Equal(t, digestOf(t, img).String(), record["subject"].(object)["digest"])

	fresh := *r // an AppView that was not there when they were pushed
	fresh.appView = startAppView(t, r.pds, r.hold)
	ref, err := name.NewDigest(fresh.image(handle + "/app@" + digestOf(t, img).String()))
	require.NoError(t, err)
	listed, err := remote.Referrers(ref)
	require.NoError(t, err)
	index, err := listed.IndexManifest()
	require.NoError(t, err)
	require.Len(t, index.Manifests, 1)
	require.Equal(t, digest, index.Manifests[0].Digest.String())
	require.Equal(t, signature, index.Manifests[0].ArtifactType)
	require.EqualValues(t, len(attached), index.Manifests[0].Size)
}

// Images here have 600 kB; the quota is 1 MB.
func quotas(r *registry, handle string) {
	t := r.t
	first, second := randomImage(t), randomImage(t)
	r.push(handle, handle+"/app:first", first)
	require.Eventually(t, func() bool { return len(r.layersOf(handle)) == 2 }, soon, tick, "the hold hears of the push")

	require.ErrorContains(t, crane.Push(second, r.image(handle+"/app:second"), r.as(handle)), "DENIED")
	require.Len(t, r.records(handle, "io.atcr.manifest"), 1, "nothing of it is public")

	require.NoError(t, crane.Delete(r.image(handle+"/app@"+digestOf(t, first).String()), r.as(handle)))
	require.Eventually(t, func() bool { return crane.Push(second, r.image(handle+"/app:second"), r.as(handle)) == nil }, soon, tick,
		"what was deleted makes room")
	r.requireImage(second, handle+"/app:second")
}

// The PDS goes away when the layers are there and the manifest is not.
func pdsAwayInAPush(r *registry, handle string) {
	t := r.t
	before, img := randomImage(t), randomImage(t)
	r.push(handle, handle+"/app:before", before)
	ref, err := name.ParseReference(r.image(handle + "/app:after"))
	require.NoError(t, err)
	layers, err := img.Layers()
	require.NoError(t, err)
	for _, l := range append(layers, configLayer(t, img)) {
		require.NoError(t, remote.WriteLayer(ref.Context(), l, remote.WithAuth(&authn.Basic{Username: handle, Password: r.pds.Account(t, handle).AppPassword})))
	}
	raw, err := img.RawManifest()
	require.NoError(t, err)

	r.pds.Pause(t)
	r.putManifest(handle, "app", "after", raw, http.StatusServiceUnavailable)
	r.requireImage(before, handle+"/app:before")
	_, err = crane.Manifest(r.image(handle + "/app:after"))
	require.Error(t, err, "nothing was acknowledged")
	r.pds.Resume(t)

	require.Eventually(t, func() bool { return crane.Push(img, r.image(handle+"/app:after"), r.as(handle)) == nil }, soon, tick)
	r.requireImage(img, handle+"/app:after")
	require.Len(t, r.records(handle, "io.atcr.tag"), 2)
	stored := r.records(handle, "io.atcr.manifest")[digestOf(t, img).Hex]
	require.NotNil(t, stored)
	require.True(t, bytes.Equal(raw, r.manifestBlob(handle, stored)))
}

func configLayer(t *testing.T, img v1.Image) v1.Layer {
	t.Helper()
	l, err := partial.ConfigLayer(img)
	require.NoError(t, err)
	return l
}
