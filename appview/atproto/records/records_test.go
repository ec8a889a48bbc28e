package records

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"atcr.io/operator/appview/atproto"
)

const (
	alice = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	bob   = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
)

var (
	d256 = digest.SHA256.FromString("x")
	d512 = digest.SHA512.FromString("x")
	now  = time.Date(2026, 11, 23, 19, 0, 0, 123456789, time.UTC)
	blob = atproto.Blob{CID: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", MimeType: "application/json", Size: 7}
)

const image = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
 "config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},
 "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","size":3,"digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","urls":["https://x"],"annotations":{"a":"b"}}],
 "subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":4,"digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
 "annotations":{"org.opencontainers.image.title":"app"}}`

const index = `{"schemaVersion":2,"manifests":[
 {"mediaType":"m","size":1,"digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","platform":{"architecture":"arm64","os":"windows","variant":"v8","os.version":"10","os.features":["win32k"]}},
 {"mediaType":"m","size":1,"digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","platform":{"architecture":"","os":""}}]}`

func pushed(t *testing.T, raw string) *Manifest {
	t.Helper()
	m, err := NewManifest(Pushed{Repository: "team/app", Digest: d256, MediaType: "application/vnd.oci.image.manifest.v1+json", HoldDID: "did:web:hold.example.com", Raw: []byte(raw), Blob: blob, Now: now})
	require.NoError(t, err)
	return m
}

func TestAPushedManifestBecomesAValidRecordAndComesBack(t *testing.T) {
	for _, raw := range []string{image, index} {
		m := pushed(t, raw)
		b, err := json.Marshal(m)
		require.NoError(t, err)
		obj, err := atdata.UnmarshalJSON(b)
		require.NoError(t, err)
		require.Equal(t, CollectionManifest, obj["$type"])
		require.Equal(t, "2026-11-23T19:00:00.123Z", obj["createdAt"])
		again, err := ParseManifest(b)
		require.NoError(t, err)
		m.CreatedAt.Time = m.CreatedAt.Truncate(time.Millisecond)
		again.was = nil
		require.Equal(t, m, again)
	}
	require.Equal(t, &Platform{"arm64", "windows", "v8", "10", []string{"win32k"}}, pushed(t, index).Manifests[0].Platform)
	require.Nil(t, pushed(t, index).Manifests[1].Platform, "half a platform would make the record invalid")
}

func TestAnnotationsNeverAlterTheRecord(t *testing.T) {
	for _, key := range []string{"$type", "$link", "$bytes", ""} {
		raw := `{"schemaVersion":2,"annotations":{"` + key + `":"blob","ok":"1"},"layers":[{"mediaType":"m","size":1,"digest":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","annotations":{"` + key + `":"x"}}]}`
		m := pushed(t, raw)
		require.True(t, m.Lossy)
		require.Nil(t, m.Annotations)
		require.Nil(t, m.Layers[0].Annotations)
		b, err := json.Marshal(m)
		require.NoError(t, err)
		_, err = atdata.UnmarshalJSON(b)
		require.NoError(t, err)
	}
}

func TestATagIsWrittenForOldAndNewReaders(t *testing.T) {
	b, err := json.Marshal(Tag{Repository: "app", Tag: "v1", Digest: d512, MediaType: "m", UpdatedAt: now, DID: alice})
	require.NoError(t, err)
	var got map[string]string
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, ManifestURI(alice, d512), got["manifest"])
	require.Equal(t, d512.String(), got["manifestDigest"])
	require.Equal(t, got["updatedAt"], got["createdAt"])
	tag, err := ParseTag(alice, b)
	require.NoError(t, err)
	require.Equal(t, d512, tag.Digest)
}

func TestOfTwoRecordsOfATagTheLaterWins(t *testing.T) {
	old, young := &Tag{UpdatedAt: now}, &Tag{UpdatedAt: now.Add(time.Second)}
	require.True(t, Newer(young, old, "a", "b"))
	require.False(t, Newer(old, young, "b", "a"))
	require.True(t, Newer(old, old, "b", "a"))
}

func TestTagRecordKeysAreLegalAndDistinct(t *testing.T) {
	keys := map[string]string{}
	for _, name := range [][2]string{{"a/b", "c"}, {"a_b", "c"}, {"a__b", "c"}, {"a-b", "c"}, {"a.b", "c"}, {"ab", "c"}, {"a", "b_c"}, {"a/b", "c_"}, {"a", "b-c"}, {"a-b", "c-"}} {
		for _, key := range []string{NewTagRKey(name[0], name[1]), SpareTagRKey(name[0], name[1])} {
			require.Empty(t, keys[key], "%v has the key of %s", name, keys[key])
			keys[key] = name[0] + ":" + name[1]
		}
	}
	require.Equal(t, "team~app:v1.0", NewTagRKey("team/app", "v1.0"))
	_, err := syntax.ParseRecordKey(NewTagRKey(strings.Repeat("a", 500), strings.Repeat("b", 128)))
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		repo := rapid.StringMatching(`[a-z0-9]+((\.|_|__|-{1,2})[a-z0-9]+){0,3}(/[a-z0-9]+){0,3}`)
		tag := rapid.StringMatching(`[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`)
		r1, t1 := repo.Draw(t, "r1"), tag.Draw(t, "t1")
		// Names that differ only in their separators are the ones that a careless rule confuses.
		separators := rapid.SampledFrom([]string{"/", "_", "__", "-", "--", "."})
		r2 := regexp.MustCompile(`[/_.-]+`).ReplaceAllStringFunc(r1, func(string) string { return separators.Draw(t, "separator") })
		t2 := rapid.OneOf(rapid.Just(t1), tag).Draw(t, "t2")
		k1, k2 := NewTagRKey(r1, t1), NewTagRKey(r2, t2)
		if _, err := syntax.ParseRecordKey(k1); err != nil {
			t.Fatalf("%q: %v", k1, err)
		}
		if (k1 == k2) != (r1 == r2 && t1 == t2) {
			t.Fatalf("%s:%s and %s:%s share key %s", r1, t1, r2, t2, k1)
		}
	})
}

func TestTheDigestIsReadBackFromRecordKeyAndURI(t *testing.T) {
	for _, d := range []digest.Digest{d256, d512} {
		did, got, err := DigestOfURI(ManifestURI(alice, d))
		require.NoError(t, err)
		require.Equal(t, alice, did)
		require.Equal(t, d, got)
	}
	for _, bad := range []string{"", "at://" + string(alice) + "/io.atcr.tag/x", ManifestURI(alice, d256) + "0", "at://alice.test/io.atcr.manifest/" + d256.Encoded()} {
		_, _, err := DigestOfURI(bad)
		require.Error(t, err, bad)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(image))
	f.Add([]byte(`{"repository":"a","mediaType":"m","digest":"` + d256.String() + `","manifestBlob":{"cid":"x","mimeType":"y"},"$type":"io.atcr.manifest"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(m)
		require.NoError(t, err)
		again, err := ParseManifest(out)
		require.NoError(t, err)
		require.Equal(t, m.Digest, again.Digest)
		require.Equal(t, m.HoldDID, again.HoldDID)
	})
}

func FuzzParseTag(f *testing.F) {
	f.Add([]byte(`{"repository":"app","tag":"latest","manifestDigest":"` + d256.String() + `"}`))
	f.Add([]byte(`{"repository":"app","tag":"latest","manifest":"` + ManifestURI(alice, d256) + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tag, err := ParseTag(alice, b)
		if err != nil {
			return
		}
		require.NoError(t, tag.Digest.Validate())
		out, err := json.Marshal(tag)
		require.NoError(t, err)
		again, err := ParseTag(alice, out)
		require.NoError(t, err, "%s", out)
		require.Equal(t, []any{tag.Repository, tag.Tag, tag.Digest}, []any{again.Repository, again.Tag, again.Digest})
	})
}
