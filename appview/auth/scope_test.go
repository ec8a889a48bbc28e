package auth

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScopesAreReadAsClientsSendThem(t *testing.T) {
	got := ParseScopes([]string{"repository:a.test/x:pull repository:a.test/x:push,pull", "registry:catalog:*", "repository(plugin):host:5000/p:pull", "bad", "", "repository:x:", "repository::pull", "repository:a b"})
	require.Equal(t, []Access{
		{Type: "repository", Name: "a.test/x", Actions: []string{"pull", "push"}},
		{Type: "registry", Name: "catalog", Actions: []string{"*"}},
		{Type: "repository", Class: "plugin", Name: "host:5000/p", Actions: []string{"pull"}},
	}, got)
	require.Len(t, ParseScopes([]string{strings.Repeat("repository:a:pull ", 10_000)}), 1)
	many := make([]string, 1000)
	for i := range many {
		many[i] = "repository:a" + strings.Repeat("b", i) + ":pull"
	}
	require.Len(t, ParseScopes(many), maxScopes)
}

func TestWhoGetsWhat(t *testing.T) {
	const did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	alice := Subject{DID: did, Handle: "alice.test"}
	nameless := Subject{DID: did, Handle: "handle.invalid"}
	for _, c := range []struct {
		who  Subject
		ask  string
		want string
	}{
		{alice, "repository:alice.test/x:pull,push,delete", "pull,push,delete"},
		{alice, "repository:alice.test/x:*", "pull,push,delete"},
		{alice, "repository:alice.test/x:push", "push"},
		{alice, "repository:did_plc_ewvi7nxzyoun6zhxrhs64oiz/x:push", "push"},
		{alice, "repository:did-plc-ewvi7nxzyoun6zhxrhs64oiz/x:push", "push"},
		{alice, "repository:bob.test/x:pull,push,delete", "pull"},
		{alice, "repository:bob.test/x:*", "pull"},
		{alice, "repository:bob.test/x:push", ""},
		{alice, "repository:alice.test.evil.test/x:push", ""},
		{alice, "repository:alice.test:push", ""},
		{alice, "repository:alice.test/../bob.test/x:pull", ""},
		{alice, "registry:catalog:*", "*"},
		{alice, "registry:other:*", ""},
		{alice, "other:alice.test/x:push", ""},
		{nameless, "repository:alice.test/x:push", ""},
		{nameless, "repository:handle.invalid/x:push", ""},
		{nameless, "repository:did_plc_ewvi7nxzyoun6zhxrhs64oiz/x:push", "push"},
		{Subject{}, "repository:alice.test/x:pull,push", "pull"},
		{Subject{}, "repository:alice.test/x:push", ""},
		{Subject{}, "registry:catalog:*", ""},
	} {
		got := Grant(c.who, ParseScopes([]string{c.ask}))
		if c.want == "" {
			require.Empty(t, got, "%s %s", c.who.Handle, c.ask)
			continue
		}
		require.Len(t, got, 1, c.ask)
		require.Equal(t, c.want, strings.Join(got[0].Actions, ","), "%s %s", c.who.Handle, c.ask)
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{"repository:a/b:pull,push", "registry:catalog:*", "repository(plugin):h:5000/p:pull", ":", "a::b", "repository:a:*,pull"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := ParseScope(s)
		if !ok {
			return
		}
		again, ok := ParseScope(a.String())
		require.True(t, ok)
		require.Equal(t, a, again)
		for _, g := range Grant(Subject{}, []Access{a}) {
			require.Equal(t, []string{Pull}, g.Actions, "anonymous never gets more than pull")
		}
	})
}
