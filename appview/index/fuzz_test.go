package index

import (
	"encoding/json"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/oci/spec"
)

const (
	fuzzDID = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	fuzzHex = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// Anybody writes what he likes into his own repository: a row is made of what can be served, or none.
func FuzzRecordToManifest(f *testing.F) {
	f.Add("x", []byte(`{"$type":"io.atcr.manifest","repository":"app","digest":"sha256:`+fuzzHex+`","mediaType":"a/b","holdDid":"did:web:h.example.com",
		"layers":[{"digest":"sha256:`+fuzzHex+`","size":1,"mediaType":"a/b"}],"config":{"digest":"nonsense","size":-1},"repositories":["b","a"],
		"subject":{"digest":"sha256:`+fuzzHex+`","size":1}}`))
	f.Add("", []byte(`{"repository":"../../etc","digest":"sha256:`+fuzzHex+`","mediaType":"text/html","holdEndpoint":"http://169.254.169.254/x","artifactType":7}`))
	f.Add("at://x", []byte(`{"repositories":{"a":1},"annotations":{"$type":"blob"}}`))
	f.Fuzz(func(t *testing.T, uri string, value []byte) {
		if !json.Valid(value) {
			return // a listRecords answer is JSON, and json.RawMessage part of it
		}
		m, err := manifestOf(fuzzDID, atproto.Record{URI: syntax.ATURI(uri), CID: "c", Value: value})
		if err != nil {
			return
		}
		_, ok := spec.ParseDigest(string(m.Digest))
		require.True(t, ok)
		require.Equal(t, fuzzDID, m.DID)
		require.LessOrEqual(t, len(m.Repositories), maxRepositories+1)
		for _, d := range append(m.Blobs, m.Children...) {
			_, ok := spec.ParseDigest(string(d))
			require.True(t, ok, "%q", d)
		}
		if m.Subject != "" {
			_, ok := spec.ParseDigest(string(m.Subject))
			require.True(t, ok)
		}
	})
}

func FuzzRecordToTag(f *testing.F) {
	f.Add("x", []byte(`{"$type":"io.atcr.tag","repository":"app","tag":"v1","manifestDigest":"sha256:`+fuzzHex+`","updatedAt":"2026-01-01T00:00:00Z"}`))
	f.Add("x", []byte(`{"repository":"app","tag":"v1","manifest":"at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/io.atcr.manifest/`+fuzzHex+`"}`))
	f.Add("x", []byte(`{"repository":"app","tag":"v1","manifest":"at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/io.atcr.manifest/../../x"}`))
	f.Fuzz(func(t *testing.T, uri string, value []byte) {
		if !json.Valid(value) {
			return
		}
		tag, err := tagOf(fuzzDID, atproto.Record{URI: syntax.ATURI(uri), Value: value})
		if err != nil {
			return
		}
		_, ok := spec.ParseDigest(string(tag.Digest))
		require.True(t, ok && spec.IsTag(tag.Tag), "%+v", tag)
	})
}
