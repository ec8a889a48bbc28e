package hold_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/lexicon"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"atcr.io/operator/appview/atproto/lexicons"
	"atcr.io/operator/appview/hold"
)

func TestEveryMethodThatAHoldServesHasALexicon(t *testing.T) {
	w := newWorld(t, nil)
	catalog, err := lexicons.Catalog()
	require.NoError(t, err)
	queries, procedures := w.hold.Methods()
	require.NotEmpty(t, queries)
	for _, name := range queries {
		s, err := catalog.Resolve(name)
		require.NoError(t, err)
		require.IsType(t, lexicon.SchemaQuery{}, s.Def, name)
		require.NotEqual(t, http.StatusNotFound, w.query(nobody, name, nil).status, name)
	}
	require.NotEmpty(t, procedures)
	for _, name := range procedures {
		s, err := catalog.Resolve(name)
		require.NoError(t, err)
		require.IsType(t, lexicon.SchemaProcedure{}, s.Def, name)
		require.Equal(t, http.StatusUnauthorized, w.call(nobody, name, object{}).status, name)
	}
}

// Whatever registries and users tell a hold, its records are what their lexicons say.
func TestRecordsOfAHoldAreValidWhateverItIsTold(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { c.Public = true; c.AllowAllCrew = true })
	layers := []digest.Digest{w.push(alice, []byte("one")), w.push(alice, []byte("two"))}
	id := w.begin(alice)
	sha512 := digest.SHA512.FromString("three")
	require.Equal(t, http.StatusOK, w.complete(alice, id, sha512, w.part(alice, id, 1, []byte("three"))).status)
	layers = append(layers, sha512, digest.FromString("not here"))
	tokens := map[string]string{alice: w.token(alice), bob: w.token(bob), carol: w.token(carol)}
	text := rapid.OneOf(rapid.StringN(0, 20, -1), rapid.SampledFrom([]string{"", "blob:read", "blob:write", "member", "read", "$type", strings.Repeat("é", 128), strings.Repeat("x", 300)}))

	kinds := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		who := rapid.SampledFrom([]string{alice, bob, carol}).Draw(rt, "who")
		switch rapid.IntRange(0, 2).Draw(rt, "call") {
		case 0:
			w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.requestCrew", tokens[who],
				object{"role": text.Draw(rt, "role"), "permissions": rapid.SliceOfN(text, 0, 3).Draw(rt, "permissions")})
		default:
			var named []object
			for _, d := range rapid.SliceOfN(rapid.SampledFrom(layers), 0, 4).Draw(rt, "layers") {
				named = append(named, object{"digest": d, "size": rapid.Int64().Draw(rt, "size"), "mediaType": text.Draw(rt, "mediaType")})
			}
			w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.notifyManifest", tokens[who], object{
				"userDid": w.did(who), "repository": text.Draw(rt, "repository"), "tag": text.Draw(rt, "tag"), "manifestDigest": digest.FromString(text.Draw(rt, "manifest")),
				"operation": rapid.SampledFrom([]string{"", "push", "push", "pull"}).Draw(rt, "operation"), "count": rapid.Int64().Draw(rt, "count"),
				"manifest": object{"layers": named}})
		}
		for _, collection := range []string{"captain", "crew", "layer", "stats"} {
			for _, r := range w.records("io.atcr.hold." + collection) {
				b, err := json.Marshal(r.Value)
				require.NoError(rt, err)
				_, err = lexicons.Validate(b)
				require.NoError(rt, err, "%s", b)
				_, err = syntax.ParseATURI(r.URI)
				require.NoError(rt, err)
				kinds[collection]++
			}
		}
	})
	for _, collection := range []string{"captain", "crew", "layer", "stats"} {
		require.NotZero(t, kinds[collection], "no %s record was checked", collection)
	}
}

func TestTheLayersOfAManifestCanBeAskedFor(t *testing.T) {
	w := newWorld(t, public)
	one, two := w.push(alice, []byte("one")), w.push(alice, []byte("two"))
	m := w.manifest("v1", one, two)
	w.notify(alice, m)
	w.notify(alice, w.manifest("v2", one))
	uri := "at://" + w.did(alice).String() + "/io.atcr.manifest/" + m["manifestDigest"].(digest.Digest).Encoded()
	var out struct{ Layers []object }
	a := w.query(nobody, "io.atcr.hold.getLayersForManifest", url.Values{"manifest": {uri}})
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	a.json(&out)
	require.Len(t, out.Layers, 2)
	for _, l := range out.Layers {
		require.Equal(t, uri, l["manifest"])
		require.Contains(t, []string{one.String(), two.String()}, l["digest"])
	}
	require.JSONEq(t, `{"layers":[]}`, string(w.query(nobody, "io.atcr.hold.getLayersForManifest", url.Values{"manifest": {uri + "0"}}).body))
	require.Equal(t, "InvalidRequest", w.query(nobody, "io.atcr.hold.getLayersForManifest", nil).errorName())
}

// The first holds named the member did.
func TestCrewRecordsOfTheFirstShapeCount(t *testing.T) {
	w := newWorld(t, tiered)
	a := w.call(alice, "com.atproto.repo.createRecord", object{"repo": w.hold.DID(), "collection": "io.atcr.hold.crew", "record": object{
		"$type": "io.atcr.hold.crew", "did": w.did(bob), "role": "write", "permissions": []string{"blob:write"}, "addedAt": "2025-08-01T00:00:00Z",
		"ofALaterRelease": object{"kept": true}}})
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.updateCrewTier", object{"userDid": w.did(bob), "tierRank": 1}).status)
	var old object
	for _, r := range w.records("io.atcr.hold.crew") {
		if r.Value["did"] == w.did(bob).String() {
			old = r.Value
		}
	}
	require.Equal(t, "write", old["role"], "what the record said stays")
	require.Equal(t, object{"kept": true}, old["ofALaterRelease"], "and what this release does not know")
	require.NotEmpty(t, old["tier"])
	require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.requestCrew", object{}).status, "a member already")
}
