package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"atcr.io/operator/appview/server/servertest"
)

func TestAnImageOfAThousandLayers(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	var layers []v1.Layer
	var blobs [][]byte
	for range 1000 {
		blobs = append(blobs, randomBytes(t, 512))
		layers = append(layers, static.NewLayer(blobs[len(blobs)-1], types.OCILayer))
	}
	image := withLayers(t, "amd64", layers...)
	config, err := image.RawConfigFile()
	require.NoError(t, err)
	token := w.Token(servertest.Alice, "repository:alice.test/many:pull,push")
	uploads, ctx := errgroup.WithContext(t.Context())
	uploads.SetLimit(8)
	for _, blob := range append(blobs, config) {
		uploads.Go(func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost,
				w.URL+"/v2/alice.test/many/blobs/uploads/?digest="+digest.FromBytes(blob).String(), bytes.NewReader(blob))
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", "application/octet-stream")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusCreated {
				return fmt.Errorf("a layer: %s", resp.Status)
			}
			return nil
		})
	}
	require.NoError(t, uploads.Wait())
	ref := reference(t, w, "alice.test/many:layers")
	require.NoError(t, remote.Put(ref, image, remote.WithAuth(w.Auth(servertest.Alice))))
	requireServed(t, ref, image)
}

// The OCI specification asks registries to take manifests of 4 MiB. One byte more is refused before anything is kept.
// The same on the reference PDS: test/peers.
func TestAManifestOfFourMebibytesAndNoByteMore(t *testing.T) {
	const limit = 4 << 20
	w := servertest.Start(t, servertest.Options{})
	image := randomImage(t)
	require.NoError(t, remote.Write(reference(t, w, "alice.test/big:small"), image, remote.WithAuth(w.Auth(servertest.Alice))))
	raw, err := image.RawManifest()
	require.NoError(t, err)

	send := func(tag string, body io.Reader, size int64) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, w.URL+"/v2/alice.test/big/manifests/"+tag, body)
		require.NoError(t, err)
		req.ContentLength = size
		req.Header.Set("Content-Type", string(types.OCIManifestSchema1))
		req.Header.Set("Authorization", "Bearer "+w.Token(servertest.Alice, "repository:alice.test/big:pull,push"))
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	largest, larger := padded(t, raw, limit), padded(t, raw, limit+1)
	require.Equal(t, http.StatusCreated, send("largest", bytes.NewReader(largest), limit).StatusCode)
	got, err := remote.Get(reference(t, w, "alice.test/big:largest"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(largest, got.Manifest), "not the bytes that were pushed")

	for how, size := range map[string]int64{"its length is known": limit + 1, "its length is not known": -1} {
		refused := send("larger", bytes.NewReader(larger), size)
		require.Equal(t, http.StatusRequestEntityTooLarge, refused.StatusCode, how)
		said, err := io.ReadAll(refused.Body)
		require.NoError(t, err)
		require.Contains(t, string(said), "SIZE_INVALID", how)
	}
	_, err = remote.Head(reference(t, w, "alice.test/big:larger"))
	require.ErrorContains(t, err, "404")
}

// padded makes a manifest size bytes long with a field that nobody knows: annotations have a limit of their own.
func padded(t *testing.T, raw []byte, size int) []byte {
	t.Helper()
	var m map[string]any
	require.NoError(t, json.Unmarshal(raw, &m))
	fill := func(n int) []byte {
		m["testPadding"] = strings.Repeat("x", n)
		out, err := json.Marshal(m)
		require.NoError(t, err)
		return out
	}
	out := fill(size - len(fill(0)))
	require.Len(t, out, size)
	return out
}
