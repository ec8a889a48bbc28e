package records

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"atcr.io/operator/appview/atproto/lexicons"
)

// Generators of what clients push: ordinary values, and ones that the lexicon cannot express.
var (
	anyText   = rapid.OneOf(rapid.StringN(0, 20, -1), rapid.SampledFrom([]string{"", "$type", "$link", "$bytes", "blob", "https://example.com/x?y=z", "::", strings.Repeat("x", 300)}))
	anyDigest = rapid.Custom(func(t *rapid.T) digest.Digest {
		return rapid.SampledFrom([]digest.Algorithm{digest.SHA256, digest.SHA512}).Draw(t, "algorithm").FromString(rapid.String().Draw(t, "content"))
	})
	anyMap        = rapid.MapOfN(anyText, rapid.OneOf(anyText.AsAny(), rapid.Int().AsAny(), rapid.Just[any](nil)), 0, 3)
	anyDescriptor = rapid.Custom(func(t *rapid.T) map[string]any {
		d := map[string]any{"mediaType": anyText.Draw(t, "mediaType"), "digest": anyDigest.Draw(t, "digest"), "size": rapid.Int64Min(0).Draw(t, "size")}
		optional := func(name string, v any) {
			if rapid.Bool().Draw(t, "has "+name) {
				d[name] = v
			}
		}
		optional("urls", rapid.SliceOfN(anyText, 0, 3).Draw(t, "urls"))
		optional("annotations", anyMap.Draw(t, "annotations"))
		optional("platform", map[string]any{"architecture": anyText.Draw(t, "architecture"), "os": anyText.Draw(t, "os"), "variant": anyText.Draw(t, "variant"),
			"os.version": anyText.Draw(t, "version"), "os.features": rapid.SliceOfN(anyText, 0, 3).Draw(t, "features")})
		return d
	})
	anyRepository = rapid.StringMatching(`[a-z0-9]{1,20}([._-][a-z0-9]{1,20}){0,2}(/[a-z0-9]{1,20}){0,3}`)
	anyTag        = rapid.StringMatching(`[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`)
	anyTime       = rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))
	})
	anyHold = rapid.SampledFrom([]syntax.DID{"", "did:web:hold.example.com", "did:web:localhost%3A8080", alice})
)

func valid(t *rapid.T, record any) []byte {
	b, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lexicons.Validate(b); err != nil {
		t.Fatalf("%v:\n%s", err, b)
	}
	return b
}

func TestEveryManifestMakesAValidRecordThatNamesAllOrSaysThatItIsLossy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := map[string]any{"schemaVersion": 2}
		if rapid.Bool().Draw(t, "index") {
			doc["manifests"] = rapid.SliceOfN(anyDescriptor, 0, 4).Draw(t, "manifests")
		} else {
			doc["config"], doc["layers"] = anyDescriptor.Draw(t, "config"), rapid.SliceOfN(anyDescriptor, 0, 4).Draw(t, "layers")
		}
		if rapid.Bool().Draw(t, "referrer") {
			doc["subject"] = anyDescriptor.Draw(t, "subject")
		}
		annotations := rapid.MapOfN(anyText, anyText, 0, 3).Draw(t, "annotations")
		doc["annotations"] = annotations
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		d := anyDigest.Draw(t, "digest")
		m, err := NewManifest(Pushed{Repository: anyRepository.Draw(t, "repository"), Digest: d, MediaType: "application/vnd.oci.image.manifest.v1+json",
			HoldDID: anyHold.Draw(t, "hold"), Raw: raw, Blob: blob, Now: anyTime.Draw(t, "now")})
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseManifest(valid(t, m))
		if err != nil {
			t.Fatal(err)
		}
		entries, _ := doc["manifests"].([]map[string]any)
		layers, _ := doc["layers"].([]map[string]any)
		whole := len(again.Layers) == len(layers) && len(again.Manifests) == len(entries) && len(again.Annotations) == len(annotations) &&
			(again.Config != nil) == (doc["config"] != nil) && (again.Subject != nil) == (doc["subject"] != nil)
		if whole == m.Lossy {
			t.Fatalf("lossy %v, whole %v", m.Lossy, whole)
		}
		valid(t, again)
	})
}

func TestEveryTagMakesAValidRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tag := Tag{Repository: anyRepository.Draw(t, "repository"), Tag: anyTag.Draw(t, "tag"), Digest: anyDigest.Draw(t, "digest"),
			MediaType: "application/vnd.oci.image.index.v1+json", UpdatedAt: anyTime.Draw(t, "now"), DID: alice}
		again, err := ParseTag(alice, valid(t, tag))
		if err != nil || again.Digest != tag.Digest {
			t.Fatal(err, again)
		}
		valid(t, again)
	})
}

func TestEveryProfileMakesAValidRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Profile{DefaultHold: anyHold.Draw(t, "hold"), OptedOut: rapid.Bool().Draw(t, "opted out"), CreatedAt: Time{anyTime.Draw(t, "now")},
			AutoRemoveUntagged: rapid.Bool().Draw(t, "remove"), OCIClient: "podman"}
		again, err := ParseProfile(valid(t, p))
		if err != nil || again.DefaultHold != p.DefaultHold || again.OptedOut != (p.OptedOut && p.DefaultHold == "") {
			t.Fatal(err, again)
		}
		valid(t, again)
	})
}

// What one AppView wrote and another, older one writes again.
func TestUnknownFieldsSurviveARewriteAtEveryDepth(t *testing.T) {
	raw := shapes(t, "manifest")["unknown-fields"].Record
	m, err := ParseManifest(raw)
	require.NoError(t, err)
	m.Repository = "other"
	rewritten, err := json.Marshal(m)
	require.NoError(t, err)
	require.JSONEq(t, strings.Replace(string(raw), `"app"`, `"other"`, 1), string(rewritten))

	// The same manifest pushed again: its layers say the same, so they stay as they are.
	fresh := &Manifest{Repository: "other", Digest: m.Digest, MediaType: m.MediaType, SchemaVersion: 2, CreatedAt: Time{now}, HoldDID: m.HoldDID,
		Config: m.Config, Layers: m.Layers, ManifestBlob: m.ManifestBlob}
	fresh.Keep(m)
	again, err := json.Marshal(fresh)
	require.NoError(t, err)
	require.JSONEq(t, string(rewritten), string(again))

	// What changes is written as it is now.
	m.Layers, m.HoldDID = nil, "did:web:new.example.com"
	b, err := json.Marshal(m)
	require.NoError(t, err)
	require.NotContains(t, string(b), "layers")
	require.Contains(t, string(b), `"holdDid":"did:web:new.example.com"`)

	tag, err := ParseTag(alice, shapes(t, "tag")["unknown-fields"].Record)
	require.NoError(t, err)
	moved := Tag{Repository: tag.Repository, Tag: tag.Tag, Digest: d512, UpdatedAt: now, DID: alice}
	moved.Keep(tag)
	b, err = json.Marshal(moved)
	require.NoError(t, err)
	require.Contains(t, string(b), `"platform":{"os":"linux"}`)
	require.Contains(t, string(b), ManifestURI(alice, d512))

	p, err := ParseProfile(shapes(t, "profile")["unknown-fields"].Record)
	require.NoError(t, err)
	p.DefaultHold = "did:web:h.example.com"
	b, err = json.Marshal(p)
	require.NoError(t, err)
	require.Contains(t, string(b), `"theme":"dark"`)
	require.Contains(t, string(b), `"defaultHold":"did:web:h.example.com"`)
}

// The deprecated pointer to a hold must not outlive a push to another one: old readers would look there.
func TestARewriteLeavesNoStaleHold(t *testing.T) {
	m, err := ParseManifest(shapes(t, "manifest")["old-endpoint"].Record)
	require.NoError(t, err)
	b, err := json.Marshal(m)
	require.NoError(t, err)
	require.NotContains(t, string(b), "holdEndpoint")
	require.Contains(t, string(b), `"holdDid":"did:web:hold01.atcr.io"`)
}
