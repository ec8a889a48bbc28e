package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

const (
	app         = "alice.test/beyond"
	octetStream = "application/octet-stream"
)

var version2 = specs.Versioned{SchemaVersion: 2}

var linkNext = regexp.MustCompile(`^<([^>]+)>; rel="next"$`)

func TestTagsAreListedInPagesOfTheSizeAskedFor(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	manifest := artifact(t, w, "application/vnd.example", nil)
	var want []string
	for i := range 7 {
		tag := fmt.Sprintf("v%d", i)
		want = append(want, tag)
		put(t, w, "manifests/"+tag, ocispec.MediaTypeImageManifest, manifest, http.StatusCreated)
	}
	var got []string
	for path := "/v2/" + app + "/tags/list?n=3"; path != ""; {
		resp := w.Do("", http.MethodGet, path, app, nil, nil)
		var page struct {
			Name string
			Tags []string
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&page))
		require.Equal(t, app, page.Name)
		require.LessOrEqual(t, len(page.Tags), 3)
		got = append(got, page.Tags...)
		path = next(t, resp)
	}
	require.Equal(t, want, got)

	resp := w.Do("", http.MethodGet, "/v2/"+app+"/tags/list?last=v4&n=0", app, nil, nil)
	require.JSONEq(t, `{"name":"`+app+`","tags":[]}`, text(t, resp))
}

func TestAnUploadTellsHowFarItIs(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	start := w.Do(servertest.Alice, http.MethodPost, "/v2/"+app+"/blobs/uploads/", app, nil, nil)
	require.Equal(t, http.StatusAccepted, start.StatusCode)
	at := start.Header.Get("Location")
	require.NotContains(t, at, "?", "clients that drop queries still find it")
	require.True(t, strings.HasPrefix(at, "/v2/"), "proxies need not rewrite it")

	patch := func(body, contentRange string, status int) *http.Response {
		t.Helper()
		resp := w.Do(servertest.Alice, http.MethodPatch, at, app, strings.NewReader(body),
			http.Header{"Content-Type": {octetStream}, "Content-Range": {contentRange}})
		require.Equal(t, status, resp.StatusCode)
		return resp
	}
	require.Equal(t, "0-4", patch("hello", "0-4", http.StatusAccepted).Header.Get("Range"))
	refused := patch("gap", "9-11", http.StatusRequestedRangeNotSatisfiable)
	require.Equal(t, "0-4", refused.Header.Get("Range"), "where to go on")
	require.Equal(t, at, refused.Header.Get("Location"))

	status := w.Do(servertest.Alice, http.MethodGet, at, app, nil, nil)
	require.Equal(t, http.StatusNoContent, status.StatusCode)
	require.Equal(t, "0-4", status.Header.Get("Range"))
	require.Equal(t, at, status.Header.Get("Location"))

	require.Equal(t, http.StatusNoContent, w.Do(servertest.Alice, http.MethodDelete, at, app, nil, nil).StatusCode)
	gone := w.Do(servertest.Alice, http.MethodGet, at, app, nil, nil)
	require.Equal(t, http.StatusNotFound, gone.StatusCode)
	require.Contains(t, text(t, gone), "BLOB_UPLOAD_UNKNOWN")
}

// distribution-spec 1.2: the client says beforehand by which algorithm it will name the blob.
func TestAnUploadIsHashedByTheAlgorithmAskedFor(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	content := []byte("named by sha512")
	d := digest.SHA512.FromBytes(content)
	start := w.Do(servertest.Alice, http.MethodPost, "/v2/"+app+"/blobs/uploads/?digest-algorithm=sha512", app, nil, nil)
	require.Equal(t, http.StatusAccepted, start.StatusCode)
	at := start.Header.Get("Location")
	resp := w.Do(servertest.Alice, http.MethodPatch, at, app, bytes.NewReader(content), http.Header{"Content-Type": {octetStream}})
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	resp = w.Do(servertest.Alice, http.MethodPut, at+"?digest="+url.QueryEscape(d.String()), app, nil, nil)
	require.Equal(t, http.StatusCreated, resp.StatusCode)
	require.Equal(t, d.String(), resp.Header.Get("Docker-Content-Digest"))

	head := w.Do("", http.MethodHead, "/v2/"+app+"/blobs/"+d.String(), app, nil, nil)
	require.Equal(t, http.StatusOK, head.StatusCode)
	require.Equal(t, strconv.Itoa(len(content)), head.Header.Get("Content-Length"))
	require.Equal(t, d.String(), head.Header.Get("Docker-Content-Digest"))

	unknown := w.Do(servertest.Alice, http.MethodPost, "/v2/"+app+"/blobs/uploads/?digest-algorithm=md5", app, nil, nil)
	require.Equal(t, http.StatusBadRequest, unknown.StatusCode)
	require.Contains(t, text(t, unknown), "DIGEST_INVALID")
}

// What is under the fall-back tag, from before the referrers API or from a registry without it, is listed beside what
// the records say, each once.
func TestReferrersUnderTheFallBackTagAreListedToo(t *testing.T) {
	const signature, sbom = "application/vnd.example.signature", "application/vnd.example.sbom"
	w := servertest.Start(t, servertest.Options{})
	image := artifact(t, w, "application/vnd.example.image", nil)
	subject := descriptor(image)
	put(t, w, "manifests/v1", ocispec.MediaTypeImageManifest, image, http.StatusCreated)

	byRecord := artifact(t, w, signature, &subject)
	resp := put(t, w, "manifests/"+digest.FromBytes(byRecord).String(), ocispec.MediaTypeImageManifest, byRecord, http.StatusCreated)
	require.Equal(t, subject.Digest.String(), resp.Header.Get("OCI-Subject"))
	byTag := artifact(t, w, sbom, nil) // says nothing of its subject
	put(t, w, "manifests/"+digest.FromBytes(byTag).String(), ocispec.MediaTypeImageManifest, byTag, http.StatusCreated)

	listed, err := json.Marshal(ocispec.Index{Versioned: version2, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{descriptor(byRecord), descriptor(byTag), descriptor(byTag)}})
	require.NoError(t, err)
	put(t, w, "manifests/sha256-"+subject.Digest.Encoded(), ocispec.MediaTypeImageIndex, listed, http.StatusCreated)

	want := func(artifactType string, manifest []byte) ocispec.Descriptor {
		d := descriptor(manifest)
		d.ArtifactType, d.Annotations = artifactType, map[string]string{"kind": artifactType}
		return d
	}
	all, _ := referrers(t, w, subject.Digest, "")
	require.ElementsMatch(t, []ocispec.Descriptor{want(signature, byRecord), want(sbom, byTag)}, all)
	for artifactType, manifest := range map[string][]byte{signature: byRecord, sbom: byTag} {
		some, header := referrers(t, w, subject.Digest, artifactType)
		require.Equal(t, []ocispec.Descriptor{want(artifactType, manifest)}, some)
		require.Equal(t, "artifactType", header.Get("OCI-Filters-Applied"))
	}

	// Without the tag, what only it named is listed no more.
	gone := w.Do(servertest.Alice, http.MethodDelete, "/v2/"+app+"/manifests/sha256-"+subject.Digest.Encoded(), app, nil, nil)
	require.Equal(t, http.StatusAccepted, gone.StatusCode)
	all, _ = referrers(t, w, subject.Digest, "")
	require.Equal(t, []ocispec.Descriptor{want(signature, byRecord)}, all)
}

// Clients refuse lists of more than 4 MiB; annotations are what makes a list long.
func TestALongListOfReferrersComesInPages(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	image := artifact(t, w, "application/vnd.example.image", nil)
	subject := descriptor(image)
	put(t, w, "manifests/v1", ocispec.MediaTypeImageManifest, image, http.StatusCreated)
	want := map[digest.Digest]bool{}
	for i := range 60 {
		m := artifact(t, w, "application/vnd.example."+strings.Repeat(strconv.Itoa(i), 3), &subject, strings.Repeat("x", 60_000))
		put(t, w, "manifests/"+digest.FromBytes(m).String(), ocispec.MediaTypeImageManifest, m, http.StatusCreated)
		want[digest.FromBytes(m)] = true
	}
	got, pages := map[digest.Digest]bool{}, 0
	for path := "/v2/" + app + "/referrers/" + subject.Digest.String(); path != ""; pages++ {
		resp := w.Do("", http.MethodGet, path, app, nil, nil)
		var index ocispec.Index
		body := text(t, resp)
		require.Less(t, len(body), 4<<20)
		require.NoError(t, json.Unmarshal([]byte(body), &index))
		for _, m := range index.Manifests {
			require.False(t, got[m.Digest], "listed twice")
			got[m.Digest] = true
		}
		path = next(t, resp)
	}
	require.Equal(t, want, got)
	require.Greater(t, pages, 1)
}

func referrers(t *testing.T, w *servertest.World, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, http.Header) {
	t.Helper()
	path := "/v2/" + app + "/referrers/" + subject.String()
	if artifactType != "" {
		path += "?artifactType=" + url.QueryEscape(artifactType)
	}
	resp := w.Do("", http.MethodGet, path, app, nil, nil)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, ocispec.MediaTypeImageIndex, resp.Header.Get("Content-Type"))
	var index ocispec.Index
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&index))
	return index.Manifests, resp.Header
}

// artifact pushes the blob of an artifact and returns its manifest, which is not pushed yet.
func artifact(t *testing.T, w *servertest.World, artifactType string, subject *ocispec.Descriptor, padding ...string) []byte {
	t.Helper()
	empty := ocispec.DescriptorEmptyJSON
	resp := w.Do(servertest.Alice, http.MethodPost, "/v2/"+app+"/blobs/uploads/?digest="+url.QueryEscape(empty.Digest.String()), app,
		bytes.NewReader(empty.Data), http.Header{"Content-Type": {octetStream}})
	require.Equal(t, http.StatusCreated, resp.StatusCode, "%s", text(t, resp))
	annotations := map[string]string{"kind": artifactType}
	for i, p := range padding {
		annotations["padding"+strconv.Itoa(i)] = p
	}
	empty.Data = nil
	m, err := json.Marshal(ocispec.Manifest{Versioned: version2, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: empty, Layers: []ocispec.Descriptor{empty}, Subject: subject, Annotations: annotations})
	require.NoError(t, err)
	return m
}

func put(t *testing.T, w *servertest.World, path, contentType string, body []byte, status int) *http.Response {
	t.Helper()
	resp := w.Do(servertest.Alice, http.MethodPut, "/v2/"+app+"/"+path, app, bytes.NewReader(body), http.Header{"Content-Type": {contentType}})
	require.Equal(t, status, resp.StatusCode, "%s", text(t, resp))
	return resp
}

func descriptor(manifest []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
}

func next(t *testing.T, resp *http.Response) string {
	t.Helper()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	link := resp.Header.Get("Link")
	if link == "" {
		return ""
	}
	m := linkNext.FindStringSubmatch(link)
	require.NotNil(t, m, link)
	return m[1]
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}
