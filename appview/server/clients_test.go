package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	ociv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/appview/server/servertest"
)

func TestAnIndexOfSeveralPlatforms(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	var index v1.ImageIndex = empty.Index
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := random.Image(100_000, 2)
		require.NoError(t, err)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch, OSVersion: "6.1"}}})
	}
	ref, err := name.ParseReference(w.Host() + "/alice.test/multi:latest")
	require.NoError(t, err)
	require.NoError(t, remote.WriteIndex(ref, index, remote.WithAuth(w.Auth(servertest.Alice))))

	got, err := remote.Index(ref)
	require.NoError(t, err)
	want, err := index.RawManifest()
	require.NoError(t, err)
	raw, err := got.RawManifest()
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, raw), "byte for byte")
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := crane.Pull(ref.Name(), crane.WithPlatform(&v1.Platform{OS: "linux", Architecture: arch, OSVersion: "6.1"}))
		require.NoError(t, err)
		require.NoError(t, drain(img))
	}
	tags, err := crane.ListTags(w.Host() + "/alice.test/multi")
	require.NoError(t, err)
	require.Equal(t, []string{"latest"}, tags, "entries of the index are not tags")
}

func drain(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		r, err := l.Compressed() // verified while it is read
		if err != nil {
			return err
		}
		if _, err = io.Copy(io.Discard, r); err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return err
		}
	}
	return nil
}

// repository is an oras client of a repository.
func repository(t *testing.T, w *servertest.World, repo string) *orasremote.Repository {
	t.Helper()
	r, err := orasremote.NewRepository(w.Host() + "/" + repo)
	require.NoError(t, err)
	r.PlainHTTP = true
	r.Client = &auth.Client{Cache: auth.NewCache(), Credential: auth.StaticCredential(w.Host(),
		auth.Credential{Username: servertest.Alice, Password: w.Account(servertest.Alice).AppPassword})}
	return r
}

func TestAnArtifactAndWhatIsAttachedToIt(t *testing.T) {
	w, ctx := servertest.Start(t, servertest.Options{}), context.Background()
	repo, store := repository(t, w, "alice.test/charts/hello"), memory.New()
	pack := func(artifactType string, subject *ociv1.Descriptor, blob string) ociv1.Descriptor {
		layer, err := oras.PushBytes(ctx, store, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", []byte(blob))
		require.NoError(t, err)
		d, err := oras.PackManifest(ctx, store, oras.PackManifestVersion1_1, artifactType,
			oras.PackManifestOptions{Layers: []ociv1.Descriptor{layer}, Subject: subject, ManifestAnnotations: map[string]string{"io.example": blob}})
		require.NoError(t, err)
		return d
	}
	chart := pack("application/vnd.cncf.helm.config.v1+json", nil, "chart")
	require.NoError(t, store.Tag(ctx, chart, "0.1.0"))
	_, err := oras.Copy(ctx, store, "0.1.0", repo, "0.1.0", oras.DefaultCopyOptions)
	require.NoError(t, err)
	for _, kind := range []string{"application/vnd.example.signature", "application/vnd.example.sbom"} {
		attached := pack(kind, &chart, kind)
		require.NoError(t, oras.CopyGraph(ctx, store, repo, attached, oras.DefaultCopyGraphOptions))
	}
	var found []ociv1.Descriptor
	require.NoError(t, repo.Referrers(ctx, chart, "", func(list []ociv1.Descriptor) error {
		found = append(found, list...)
		return nil
	}))
	require.Len(t, found, 2)
	found = nil
	require.NoError(t, repo.Referrers(ctx, chart, "application/vnd.example.sbom", func(list []ociv1.Descriptor) error {
		found = append(found, list...)
		return nil
	}))
	require.Len(t, found, 1)
	require.Equal(t, "application/vnd.example.sbom", found[0].ArtifactType)
	require.Equal(t, "application/vnd.example.sbom", found[0].Annotations["io.example"])
}

func TestManyPushesOfOneUserAtOnceAllArrive(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	var all sync.WaitGroup
	errs := make(chan error, 20)
	for i := range cap(errs) {
		all.Add(1)
		go func() {
			defer all.Done()
			img, err := random.Image(1000, 1)
			if err == nil {
				err = crane.Push(img, w.Host()+"/alice.test/many:v"+strconv.Itoa(i), crane.WithAuth(w.Auth(servertest.Alice)))
			}
			errs <- err
		}()
	}
	all.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	resp := w.Do("", http.MethodGet, "/v2/alice.test/many/tags/list?n=15", "alice.test/many", nil, nil)
	var page struct{ Tags []string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&page))
	require.Len(t, page.Tags, 15)
	link, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	resp = w.Do("", http.MethodGet, link, "alice.test/many", nil, nil)
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&page))
	require.Len(t, page.Tags, 5)
	require.Equal(t, 1, w.Devnet.Count("createSession"), "one login at the PDS for all of it")
}

func TestAHoldOnS3(t *testing.T) {
	s3 := s3test.Start(t)
	for kind, proxy := range map[string]bool{"redirect": false, "proxy": true} {
		t.Run(kind, func(t *testing.T) {
			w := servertest.Start(t, servertest.Options{Proxy: proxy, HoldEnv: map[string]string{
				names.StorageDriver: "s3", names.S3Endpoint: s3.Endpoint, names.S3Bucket: s3.Bucket(t), names.AWSRegion: s3.Region,
				names.AWSAccessKeyID: s3.AccessKey, names.AWSSecretAccessKey: s3.SecretKey}})
			img, err := random.Image(20<<20, 1) // three parts
			require.NoError(t, err)
			ref := w.Host() + "/alice.test/on-s3:v1"
			require.NoError(t, crane.Push(img, ref, crane.WithAuth(w.Auth(servertest.Alice))))
			got, err := crane.Pull(ref)
			require.NoError(t, err)
			require.NoError(t, drain(got))
		})
	}
}

func TestABlobIsStreamedForAHoldThatClientsCannotReach(t *testing.T) {
	w := servertest.Start(t, servertest.Options{Proxy: true})
	blob := make([]byte, 1<<20)
	_, _ = rand.Read(blob)
	path := "/v2/" + app + "/blobs/" + string(push(t, w, app, blob))
	resp := w.Do("", http.MethodGet, path, app, nil, nil)
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	require.True(t, bytes.Equal(blob, got))
	resp = w.Do("", http.MethodGet, path, app, nil, http.Header{"Range": {"bytes=1000-1999"}})
	got, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 206, resp.StatusCode)
	require.Equal(t, "bytes 1000-1999/1048576", resp.Header.Get("Content-Range"))
	require.True(t, bytes.Equal(blob[1000:2000], got))
	refuses(t, w.Do("", http.MethodGet, path, app, nil, http.Header{"Range": {"bytes=9999999-"}}), 416, "RANGE_INVALID", "range")
}
