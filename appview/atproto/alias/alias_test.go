package alias

import (
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/distribution/reference"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const plc = "ewvi7nxzyoun6zhxrhs64oiz"

func TestReadingTheFirstComponent(t *testing.T) {
	for in, want := range map[string]string{
		"alice.example.com":           "alice.example.com",
		"alice.test":                  "alice.test",
		"did_plc_" + plc:              "did:plc:" + plc,
		"did-plc-" + plc:              "did:plc:" + plc,
		"did_web_hold.example.com":    "did:web:hold.example.com",
		"did_web_my-hold.example.com": "did:web:my-hold.example.com",
		"did_web_localhost__3a8080":   "did:web:localhost%3A8080",
		"did-web-localhost":           "did:web:localhost",
		"did-web-my.host.example":     "did-web-my.host.example", // a handle: it has a dot
	} {
		got, err := Decode(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got.String())
	}
	for _, bad := range []string{"", "library", "Alice.test", "did_plc_short", "did_plc_" + strings.ToUpper(plc), "did_key_zabc", "did_web_",
		"did_web_a__3a0", "did_web_a__3a08", "did_web_a__3a1__3a2", "did_web_a%3A80", "did_web_a:80", "alice_x.test", "..", "a..b", "did-plc-x.test/"} {
		_, err := Decode(bad)
		require.Error(t, err, bad)
	}
}

func TestSplittingANameKeepsSlashesInTheRepository(t *testing.T) {
	id, repo, err := Split("alice.test/team/app_v1.0")
	require.NoError(t, err)
	require.Equal(t, "alice.test", id.String())
	require.Equal(t, "team/app_v1.0", repo)
	for _, bad := range []string{"alice.test", "alice.test/", "alice.test//a", "alice.test/A", "alice.test/a/", "alice.test/../a", "alice.test/a___b",
		"alice.test/a._b", "alice.test/-a", "library/ubuntu", "alice.test/" + strings.Repeat("a", 250)} {
		_, _, err := Split(bad)
		require.Error(t, err, bad)
	}
}

func TestOwnersAreReadAsPeopleTypeThem(t *testing.T) {
	for in, want := range map[string]string{
		"@Alice.Test": "alice.test", "did:plc:" + plc: "did:plc:" + plc, "did_plc_" + plc: "did:plc:" + plc,
		"did:web:localhost:8080": "did:web:localhost%3A8080",
	} {
		got, err := Owner(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got.String())
	}
}

// Identities as they are, and hosts that look like parts of an alias: ports, xn--, 3a, single letters, addresses.
var anyDID = rapid.OneOf(
	rapid.StringMatching(`did:plc:[a-z2-7]{24}`),
	rapid.StringMatching(`did:web:[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{2,5}){0,3}(%3A[1-9][0-9]{0,3})?`),
	rapid.StringMatching(`did:web:((web|did|plc|a|a3a)|(3a|3a8080|xn--3a|a--3a)\.(a3a|test|xn--p1ai)|127\.0\.0\.1)(%3A(1|80|3|65535))?`),
)

func TestDifferentDIDsHaveDifferentAliases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := anyDID.Draw(t, "one"), anyDID.Draw(t, "two")
		a, err := Encode(syntax.DID(one))
		b, err2 := Encode(syntax.DID(two))
		if err != nil || err2 != nil || (a == b) != (one == two) {
			t.Fatalf("%s is %s, %s is %s: %v %v", one, a, two, b, err, err2)
		}
	})
}

// Upstream's spelling of a DID means the same as ours, wherever it has one.
func TestTheHyphenatedFormIsReadAsTheCanonicalOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		did := rapid.OneOf(rapid.StringMatching(`did:plc:[a-z2-7]{24}`), rapid.StringMatching(`did:web:[a-z]([a-z0-9-]{0,10}[a-z0-9])?`)).Draw(t, "did")
		id, err := Decode(strings.ReplaceAll(did, ":", "-"))
		if err != nil || id.String() != did {
			t.Fatalf("%s: %s, %v", did, id, err)
		}
	})
}

func TestEveryDIDSurvivesTheAlias(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		did := anyDID.Draw(t, "did")
		a, err := Encode(syntax.DID(did))
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(a)
		if err != nil || back.String() != did {
			t.Fatalf("%s -> %s -> %s, %v", did, a, back, err)
		}
		if _, err := syntax.ParseHandle(a); err == nil {
			t.Fatalf("alias %s is also a handle", a)
		}
		if _, err := reference.WithName("registry.example.com/" + a + "/app"); err != nil {
			t.Fatalf("alias %s is outside the OCI grammar: %v", a, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"alice.test", "did_plc_" + plc, "did-plc-" + plc, "did_web_localhost__3a8080", "did_web_xn--a.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := Decode(s)
		if err != nil {
			return
		}
		if did, err := id.AsDID(); err == nil {
			a, err := Encode(did)
			require.NoError(t, err)
			again, err := Decode(a)
			require.NoError(t, err)
			require.Equal(t, id, again)
		}
	})
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"alice.test/app", "alice.test/a--b/c__d", "did_plc_" + plc + "/x", "a/b", "alice.test/a.-b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, repo, err := Split(s)
		if err != nil {
			return
		}
		if len(s) < 200 {
			_, err = reference.WithName("h.example.com/" + repo)
			require.NoError(t, err, "everything accepted is in the OCI grammar")
		}
	})
}
