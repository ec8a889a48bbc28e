package server_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/test/testenv"
)

func anImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(5_000, 2)
	require.NoError(t, err)
	return img
}

// pushedTo pushes an image as bob, and gives the hold that its record names.
func pushedTo(t *testing.T, w *servertest.World, img v1.Image, tag string) syntax.DID {
	t.Helper()
	require.NoError(t, crane.Push(img, w.Host()+"/"+bobs+":"+tag, crane.WithAuth(w.Auth(servertest.Bob))))
	d, err := img.Digest()
	require.NoError(t, err)
	rec, err := w.Devnet.Engine().GetRecord(t.Context(), w.Account(servertest.Bob).DID, records.CollectionManifest, syntax.RecordKey(d.Hex))
	require.NoError(t, err)
	return syntax.DID(fmt.Sprint(rec.Value["holdDid"]))
}

func pulls(t *testing.T, w *servertest.World, tag string) {
	t.Helper()
	img, err := crane.Pull(w.Host() + "/" + bobs + ":" + tag)
	require.NoError(t, err)
	require.NoError(t, validate.Image(img))
}

func named(did syntax.DID) map[string]string {
	return map[string]string{names.HoldSuccessor: string(did)}
}

func TestPushesFollowTheSuccessorsOfAHold(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	old := w.AnotherHold(nil)
	middle := w.AnotherHold(named(w.HoldDID()))
	w.SetDefaultHold(servertest.Bob, old.DID())
	require.Equal(t, old.DID(), pushedTo(t, w, anImage(t), "before"))

	old.Restart(named(middle.DID()))
	w = w.Fresh()
	require.Equal(t, w.HoldDID(), pushedTo(t, w, anImage(t), "after"), "the newest of the line")
	pulls(t, w, "before")
	pulls(t, w, "after")

	t.Run("what the successor has is read from it, with the old hold switched off", func(t *testing.T) {
		kept := anImage(t)
		require.Equal(t, w.HoldDID(), pushedTo(t, w, kept, "moved"))
		d, err := kept.Digest()
		require.NoError(t, err)
		s := &strangers{World: w, t: t}
		rec, err := w.Devnet.Engine().GetRecord(t.Context(), w.Account(servertest.Bob).DID, records.CollectionManifest, syntax.RecordKey(d.Hex))
		require.NoError(t, err)
		rec.Value["holdDid"] = string(old.DID()) // as of an image whose blobs the captain has moved
		s.record(servertest.Bob, string(records.CollectionManifest), d.Hex, rec.Value)
		old.Stop()
		pulls(t, w, "moved")
		old.Restart(named(middle.DID()))
	})
	t.Run("a successor that is down", func(t *testing.T) {
		middle.Stop()
		fresh := w.Fresh()
		require.Equal(t, old.DID(), pushedTo(t, fresh, anImage(t), "meanwhile"), "the hold before it takes the push")
		pulls(t, fresh, "meanwhile")
		pulls(t, fresh, "before")
		middle.Restart(named(w.HoldDID()))
	})
	t.Run("holds that name each other", func(t *testing.T) {
		middle.Restart(named(old.DID()))
		fresh := w.Fresh()
		require.Equal(t, old.DID(), pushedTo(t, fresh, anImage(t), "cycle"), "the one that the user has chosen")
		pulls(t, fresh, "cycle")
	})
	t.Run("a successor that is taken back", func(t *testing.T) {
		old.Restart(map[string]string{names.HoldSuccessor: "none"})
		require.Equal(t, old.DID(), pushedTo(t, w.Fresh(), anImage(t), "back"))
	})
}

// What a former hold has is uploaded again, since a manifest names blobs in one hold.
func TestAPushAfterAChangeOfHold(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	first := anImage(t)
	require.Equal(t, w.HoldDID(), pushedTo(t, w, first, "v1"))
	next := w.AnotherHold(nil)
	w.SetDefaultHold(servertest.Bob, next.DID())
	w = w.Fresh()

	t.Run("another tag of an image that is there already needs no upload, and leaves it where it is", func(t *testing.T) {
		require.NoError(t, crane.Tag(w.Host()+"/"+bobs+":v1", "again", crane.WithAuth(w.Auth(servertest.Bob))))
		pulls(t, w, "again")
	})
	t.Run("crane", func(t *testing.T) {
		more, err := random.Layer(3_000, "application/vnd.docker.image.rootfs.diff.tar.gzip")
		require.NoError(t, err)
		derived, err := mutate.AppendLayers(first, more)
		require.NoError(t, err)
		require.Equal(t, next.DID(), pushedTo(t, w, derived, "v2"))
		pulls(t, w, "v1")
		pulls(t, w, "v2")
	})
	t.Run("skopeo", func(t *testing.T) {
		skopeo := testenv.Program(t, "skopeo", "hack/test/deps.sh installs it")
		third := w.AnotherHold(nil)
		w.SetDefaultHold(servertest.Bob, third.DID())
		fresh := w.Fresh()
		a := fresh.Account(servertest.Bob)
		out, err := exec.CommandContext(t.Context(), skopeo, "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "--dest-creds", servertest.Bob+":"+a.AppPassword,
			"docker://"+fresh.Host()+"/"+bobs+":v2", "docker://"+fresh.Host()+"/"+bobs+":v3").CombinedOutput()
		require.NoError(t, err, "%s", out)
		pulls(t, fresh, "v3")
	})
	t.Run("an image of which one layer is in each hold", func(t *testing.T) {
		w.SetDefaultHold(servertest.Bob, w.AnotherHold(nil).DID())
		fresh := w.Fresh()
		whole := image(t, fresh, "new layer")
		require.Equal(t, http.StatusCreated, putManifest(fresh, servertest.Bob, bobs, "whole", whole).StatusCode)
		layers, err := first.Layers()
		require.NoError(t, err)
		d, err := layers[0].Digest()
		require.NoError(t, err)
		size, err := layers[0].Size()
		require.NoError(t, err)
		path := "/v2/" + bobs + "/blobs/" + d.String()
		require.Equal(t, http.StatusNotFound, fresh.Do(servertest.Bob, http.MethodHead, path, bobs, nil, nil).StatusCode, "to be uploaded")
		require.Equal(t, http.StatusOK, fresh.Do("", http.MethodHead, path, bobs, nil, nil).StatusCode, "for readers it is there")
		mixed := manifestOf(digest.FromString("{}"), digest.Digest(d.String()), 2, int(size))
		refuses(t, putManifest(fresh, servertest.Bob, bobs, "mixed", mixed), 400, "MANIFEST_BLOB_UNKNOWN", "Push it before the manifest that names it.")
	})
}
