package spec_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/oci/spec"
)

func TestNames(t *testing.T) {
	for _, good := range []string{"alice.test/app", "a/b/c/d", "did_plc_abc/x__y.z-w", "a/b---c", "did-plc-x/y"} {
		n, ok := spec.ParseName(good)
		require.True(t, ok, good)
		require.Equal(t, good, n.String())
	}
	for _, bad := range []string{"", "app", "/", "a/", "/b", "a//b", "A/b", "a/b_", "a/_b", "a/b___c", "a/b..c", "a/..",
		"a/b.-c", "a/b c", "a/b%2fc", "a/ä", "a/" + strings.Repeat("x", 255)} {
		_, ok := spec.ParseName(bad)
		require.False(t, ok, bad)
	}
}

func TestPathsEndWithTheirNoun(t *testing.T) {
	for path, want := range map[string]spec.Path{
		"/v2/":                            {Endpoint: spec.Base},
		"/v2":                             {Endpoint: spec.Base},
		"/v2/_catalog":                    {Endpoint: spec.Catalog},
		"/v2/a/b/manifests/v1":            {Endpoint: spec.Manifest, Name: "a/b", Ref: "v1"},
		"/v2/a/manifests/manifests/list":  {Endpoint: spec.Manifest, Name: "a/manifests", Ref: "list"},
		"/v2/a/b/tags/list":               {Endpoint: spec.Tags, Name: "a/b"},
		"/v2/a/b/blobs/sha256:x":          {Endpoint: spec.Blob, Name: "a/b", Ref: "sha256:x"},
		"/v2/a/b/blobs/uploads":           {Endpoint: spec.Uploads, Name: "a/b"},
		"/v2/a/b/blobs/uploads/":          {Endpoint: spec.Uploads, Name: "a/b"},
		"/v2/a/b/blobs/uploads/id":        {Endpoint: spec.Upload, Name: "a/b", Ref: "id"},
		"/v2/a/blobs/uploads/manifests/x": {Endpoint: spec.Manifest, Name: "a/blobs/uploads", Ref: "x"},
		"/v2/a/b/referrers/sha256:x":      {Endpoint: spec.Referrers, Name: "a/b", Ref: "sha256:x"},
		"/v2/a/b/tags/other":              {},
		"/v2/a":                           {},
		"/v2x/a/manifests/b":              {},
		"/v3/":                            {},
		"/v2/manifests/x":                 {},
	} {
		require.Equal(t, want, spec.ParsePath(path), path)
	}
}

func TestContentRanges(t *testing.T) {
	for in, want := range map[string]spec.Range{"0-0": {}, "10-19": {10, 19}, "bytes 0-5/*": {0, 5}, "bytes 0-5/6": {0, 5}} {
		got, ok := spec.ParseContentRange(in)
		require.True(t, ok, in)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"", "-", "5", "5-4", "-5", "0-", "a-b", "+1-2", "0-99999999999999999999", "bytes 0-5", "bytes=0-5", "0-5/6"} {
		_, ok := spec.ParseContentRange(bad)
		require.False(t, ok, bad)
	}
}

const hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestManifestsThatAreRefused(t *testing.T) {
	desc := `{"mediaType":"application/octet-stream","digest":"sha256:` + hexA + `","size":1}`
	image := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":` + desc + `,"layers":[%s]%s}`
	for name, c := range map[string]struct{ body, contentType, problem string }{
		"not JSON":             {"hello", "", "not JSON"},
		"an array":             {"[]", "", "not a JSON object"},
		"a page":               {fmt.Sprintf(strings.Replace(image, `"mediaType":"application/vnd.oci.image.manifest.v1+json",`, "", 1), desc, ``), "text/html", "not one of a manifest"},
		"a picture":            {fmt.Sprintf(strings.Replace(image, `"mediaType":"application/vnd.oci.image.manifest.v1+json",`, "", 1), desc, ``), "image/svg+xml", "not one of a manifest"},
		"two values":           {`{} {}`, "", "more than one value"},
		"schema 1":             {`{"schemaVersion":1,"fsLayers":[]}`, "", "schemaVersion 2"},
		"layers and manifests": {fmt.Sprintf(image, desc, `,"manifests":[]`), "", "both manifests and layers"},
		"another Content-Type": {fmt.Sprintf(image, desc, ``), "application/vnd.oci.image.index.v1+json", "Content-Type"},
		"duplicate keys":       {fmt.Sprintf(image, desc, `,"layers":[]`), "", "twice"},
		"keys in another case": {fmt.Sprintf(image, desc, `,"Subject":`+desc), "", `must be written "subject"`},
		"a bad digest":         {fmt.Sprintf(image, `{"mediaType":"a/b","digest":"sha256:x","size":1}`, ``), "", "layers[0].digest"},
		"a negative size":      {fmt.Sprintf(image, `{"mediaType":"a/b","digest":"sha256:`+hexA+`","size":-1}`, ``), "", "layers[0].size"},
		"a fraction as size":   {fmt.Sprintf(image, `{"mediaType":"a/b","digest":"sha256:`+hexA+`","size":1.5}`, ``), "", "cannot be"},
		"too deep":             {fmt.Sprintf(image, desc, `,"x":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)), "", "deeper"},
		"invalid UTF-8":        {"{\"schemaVersion\":2,\"x\":\"\xff\"}", "", "UTF-8"},
		"an image without config": {`{"schemaVersion":2,"layers":[]}`,
			"application/vnd.oci.image.manifest.v1+json", "must have a config"},
	} {
		_, err := spec.ParseManifest([]byte(c.body), c.contentType)
		require.ErrorContains(t, err, c.problem, name)
	}
}

func TestManifestsThatAreAccepted(t *testing.T) {
	desc := `{"mediaType":"application/octet-stream","digest":"sha256:` + hexA + `","size":1}`
	d, err := spec.ParseManifest([]byte(`{"schemaVersion":2,"manifests":[`+desc+`],"annotations":{"Config":"mine"}}`), "")
	require.NoError(t, err)
	require.True(t, d.IsIndex)
	require.Equal(t, spec.MediaTypeImageIndex, d.MediaType)

	d, err = spec.ParseManifest([]byte(`{"schemaVersion":2,"config":`+desc+`,"layers":[
		{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"sha256:`+hexA+`","size":1},
		{"mediaType":"a/b","digest":"sha256:`+hexA+`","size":1,"urls":["https://example.com/x"]}]}`),
		"application/vnd.example+json")
	require.NoError(t, err)
	require.Equal(t, "application/vnd.example+json", d.MediaType)
	require.Len(t, d.Blobs(), 1, "only the config must be in the hold")
	require.Equal(t, "application/octet-stream", d.Referrer())
}

var slowName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+$`)

func FuzzNameAgainstTheSpecsExpression(f *testing.F) {
	for _, s := range []string{"alice.test/app", "a/b__c", "a/b___c", "a--b/c.d", "a/b/../c", "a/-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, ok := spec.ParseName(s)
		require.Equal(t, slowName.MatchString(s) && len(s) <= spec.MaxNameLength, ok, "%q", s)
	})
}

// slowPaths is the API's table of paths (OCI distribution-spec 1.1, "Endpoints") as expressions; the first that fits counts.
var slowPaths = []struct {
	expression *regexp.Regexp
	endpoint   spec.Endpoint
}{
	{regexp.MustCompile(`(?s)^/v2/?$`), spec.Base},
	{regexp.MustCompile(`^/v2/_catalog$`), spec.Catalog},
	{regexp.MustCompile(`(?s)^/v2/(.+)/manifests/([^/]*)$`), spec.Manifest},
	{regexp.MustCompile(`(?s)^/v2/(.+)/referrers/([^/]*)$`), spec.Referrers},
	{regexp.MustCompile(`(?s)^/v2/(.+)/tags/(list)$`), spec.Tags},
	{regexp.MustCompile(`(?s)^/v2/(.+)/blobs/(uploads)/?$`), spec.Uploads},
	{regexp.MustCompile(`(?s)^/v2/(.+)/blobs/uploads/([^/]+)$`), spec.Upload},
	{regexp.MustCompile(`(?s)^/v2/(.+)/blobs/([^/]*)$`), spec.Blob},
}

func slowPath(s string) spec.Path {
	for _, p := range slowPaths {
		m := p.expression.FindStringSubmatch(s)
		if m == nil {
			continue
		}
		out := spec.Path{Endpoint: p.endpoint}
		if len(m) == 3 {
			out.Name, out.Ref = m[1], m[2]
		}
		if p.endpoint == spec.Tags || p.endpoint == spec.Uploads {
			out.Ref = ""
		}
		return out
	}
	return spec.Path{}
}

func FuzzPathAgainstTheTable(f *testing.F) {
	for _, s := range []string{"/v2/", "/v2", "/v2/a/b/manifests/x", "/v2/a/b/blobs/uploads/", "/v2/a/blobs/uploads", "/v2//manifests/", "/v2/a/b/tags/list",
		"/v2/a/b/tags/", "/v2/blobs/uploads/x", "/v2/a/blobs/", "/v2/uploads/x", "/v2/a/uploads/", "/v2/_catalog/", "/v2/a/manifests/../b",
		"/v2/blobs/blobs/uploads/", "/v2/a/referrers/x\n", "/v2/a\n/manifests/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		require.Equal(t, slowPath(s), spec.ParsePath(s), "%q", s)
	})
}

func FuzzPageSize(f *testing.F) {
	for _, s := range []string{"", "0", "1000", "-1", "99999999999999999999", "9223372036854775807", "1e9", " 1", "0x10", "\u0661"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := spec.ParsePageSize(s, 1000)
		require.True(t, n >= 0 && n <= 1000, "%q makes a page of %d", s, n)
		require.Equal(t, s == "" || regexp.MustCompile(`^[0-9]{1,18}$`).MatchString(s), ok, "%q", s)
	})
}

var slowDigest = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

func FuzzDigest(f *testing.F) {
	f.Add("sha256:" + hexA)
	f.Add("sha512:" + hexA + hexA)
	f.Add("sha256:" + strings.ToUpper(hexA))
	f.Add("sha384:abc")
	f.Fuzz(func(t *testing.T, s string) {
		d, ok := spec.ParseDigest(s)
		require.Equal(t, slowDigest.MatchString(s), ok)
		if ok {
			require.NoError(t, d.Validate())
			require.Equal(t, digest.Digest(s), d)
		}
	})
}

var slowRange = regexp.MustCompile(`^(?:([0-9]{1,18})-([0-9]{1,18})|bytes ([0-9]{1,18})-([0-9]{1,18})/(?:\*|[0-9]{1,18}))$`)

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"0-5", "bytes 0-5/*", "bytes 0-5/6", "bytes 0-5/", "bytes bytes 0-5/6/6", "5-0", "0--5", "00-007", "0-999999999999999999", "0-9999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, ok := spec.ParseContentRange(s)
		m := slowRange.FindStringSubmatch(s)
		if m == nil {
			require.False(t, ok, "%q", s)
			return
		}
		first, err := strconv.ParseInt(m[1]+m[3], 10, 64) // one of them is empty
		require.NoError(t, err)
		last, err := strconv.ParseInt(m[2]+m[4], 10, 64)
		require.NoError(t, err)
		require.Equal(t, first <= last, ok, "%q", s)
		if ok {
			require.Equal(t, spec.Range{First: first, Last: last}, r)
			require.Positive(t, r.Len())
		}
	})
}

func FuzzManifest(f *testing.F) {
	desc := `{"mediaType":"a/b","digest":"sha256:` + hexA + `","size":1}`
	f.Add([]byte(`{"schemaVersion":2,"config":`+desc+`,"layers":[`+desc+`]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[`+desc+`],"subject":`+desc+`}`), spec.MediaTypeImageIndex)
	f.Add([]byte(`{"a":[{"b":{}}],"a":1}`), "application/vnd.x+json")
	f.Add([]byte(`{"schemaVersion":2,"config":`+desc+`,"\u0063onfig":`+desc+`}`), "application/vnd.x+json")
	f.Add([]byte(`{"schemaVersion":2,"config":`+desc+`,"layers":[{"mediaType":"a/b","digest":"sha256:`+hexA+`","size":9223372036854775808}]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"config":`+desc+`,"annotations":{"k":"`+strings.Repeat("x", 300)+`"}}`), "")
	f.Add([]byte(`{"schemaVersion":2,"config":`+desc+`,"x":`+strings.Repeat("[", 63)+strings.Repeat("]", 63)+`}`), "application/vnd.x+json")
	f.Add([]byte("\ufeff{}"), "application/vnd.x+json")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		before := bytes.Clone(body)
		d, err := spec.ParseManifest(body, contentType)
		require.True(t, bytes.Equal(before, body), "the bytes are the truth and stay as they are")
		if err != nil {
			require.Nil(t, d)
			require.Less(t, len(err.Error()), 1000, "an error does not repeat the manifest")
			return
		}
		require.True(t, utf8.Valid(body) && json.Valid(body))
		require.False(t, d.Manifests != nil && (d.Layers != nil || d.Config != nil))
		require.LessOrEqual(t, len(d.Layers)+len(d.Manifests), 20_000)
		for _, list := range [][]spec.Descriptor{d.Blobs(), d.Layers, d.Manifests} {
			for _, b := range list {
				_, ok := spec.ParseDigest(string(b.Digest))
				require.True(t, ok && b.Size >= 0, "%+v", b)
			}
		}
		// Whoever reads the same bytes with another JSON reader sees the same document: no key counts twice.
		var generic map[string]any
		require.NoError(t, json.Unmarshal(body, &generic))
		again, err := json.Marshal(generic)
		require.NoError(t, err)
		other, err := spec.ParseManifest(again, contentType)
		require.NoError(t, err, "%s", again)
		require.Equal(t, d.Blobs(), other.Blobs())
		require.Equal(t, d.MediaType, other.MediaType)
		require.Equal(t, len(d.Manifests), len(other.Manifests))
	})
}
