package server_test

import (
	"io"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

func TestAnImageIsPushedAndPulledByTagAndDigest(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	img, err := random.Image(1<<20, 3)
	require.NoError(t, err)
	ref := w.Host() + "/alice.test/team/app:v1"
	require.NoError(t, crane.Push(img, ref, crane.WithAuth(w.Auth(servertest.Alice))))

	want, err := img.Digest()
	require.NoError(t, err)
	for _, name := range []string{ref, w.Host() + "/alice.test/team/app@" + want.String()} {
		got, err := crane.Pull(name)
		require.NoError(t, err, name)
		digest, err := got.Digest()
		require.NoError(t, err)
		require.Equal(t, want, digest)
		layers, err := got.Layers()
		require.NoError(t, err)
		require.Len(t, layers, 3)
		for _, l := range layers {
			r, err := l.Compressed() // verified while it is read
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, r)
			require.NoError(t, err)
		}
	}
}
