package auth

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// confusable are names that differ from each other in ways in which somebody has once taken two names for one.
var confusable = []string{
	"alice.test/app", "alice.test/app/sub", "alice.test/ap", "alice.test/app-", "alice.test/appp", "alice.test/APP", "ALICE.test/app", "alice.test",
	"alice.test/", "/alice.test/app", "alice.test//app", "alice.test/app/", "alice.test/../bob.test/app", "bob.test/alice.test/app", "alice.test.evil.test/app",
	"evil.test/alice.test/app", "alice.testevil.test/app", "xalice.test/app", "lice.test/app", "alice_test/app", "alice.test%2fapp", "alice.test/app:pull",
	"bob.test/app", "bob.test/app/alice.test", "did_plc_ewvi7nxzyoun6zhxrhs64oiz/app", "did_plc_ewvi7nxzyoun6zhxrhs64oix/app", "did-plc-ewvi7nxzyoun6zhxrhs64oiz/app",
	"did:plc:ewvi7nxzyoun6zhxrhs64oiz/app", "handle.invalid/app", "catalog", "*", "**", "alice.test/*", "*/app",
}

var (
	kinds   = []string{"repository", "repository(plugin)", "registry", "Repository", "repositor", "repository2", "*", "admin"}
	actions = []string{"pull", "push", "delete", "*", "pull,push", "push,delete", "pull,push,delete", "pul", "pushh", "PUSH", "pull,", "admin", "pull,*"}
)

// owners says who may change which of the names, without any of the code under test.
var owners = map[string]string{
	"alice.test/app": "alice", "alice.test/app/sub": "alice", "alice.test/ap": "alice", "alice.test/appp": "alice",
	"bob.test/app": "bob", "bob.test/alice.test/app": "bob", "bob.test/app/alice.test": "bob",
	"did_plc_ewvi7nxzyoun6zhxrhs64oiz/app": "alice's DID", "did-plc-ewvi7nxzyoun6zhxrhs64oiz/app": "alice's DID",
}

// TestAGrantNeverReachesAnotherResource asks for many scopes at once, and checks each right of the token: it was asked
// for, for exactly this type, name and action, and the subject may have it.
func TestAGrantNeverReachesAnotherResource(t *testing.T) {
	const did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	subjects := []struct {
		Subject
		owns []string
	}{
		{Subject{}, nil},
		{Subject{DID: did, Handle: "alice.test"}, []string{"alice", "alice's DID"}},
		{Subject{DID: did, Handle: "handle.invalid"}, []string{"alice's DID"}},
		{Subject{DID: did}, []string{"alice's DID"}},
		{Subject{DID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Handle: "bob.test"}, []string{"bob"}},
	}
	rapid.Check(t, func(t *rapid.T) {
		who := rapid.SampledFrom(subjects).Draw(t, "who")
		var asked []string
		for range rapid.IntRange(1, 6).Draw(t, "scopes") {
			asked = append(asked, rapid.SampledFrom(kinds).Draw(t, "type")+":"+rapid.SampledFrom(confusable).Draw(t, "name")+":"+rapid.SampledFrom(actions).Draw(t, "actions"))
		}
		params := asked
		if rapid.Bool().Draw(t, "in one parameter") {
			params = []string{strings.Join(asked, " ")}
		}
		claims := Claims{Access: Grant(who.Subject, ParseScopes(params))}

		for _, kind := range []string{"repository", "registry", "*", "admin", "Repository", "repository2"} {
			for _, name := range confusable {
				for _, action := range []string{Pull, Push, Delete, "*", "admin", "PUSH", ""} {
					if !claims.AllowsOn(kind, name, action) {
						continue
					}
					if !wasAsked(asked, kind, name, action) {
						t.Fatalf("%s %s %s was never asked for: %q", kind, name, action, asked)
					}
					switch {
					case kind == "registry" && name == "catalog" && action == "*":
						if who.Anonymous() {
							t.Fatalf("nobody has a catalog: %q", asked)
						}
					case kind != "repository":
						t.Fatalf("%s %s %s is nothing to grant", kind, name, action)
					case action == Push || action == Delete:
						if !slices.Contains(who.owns, owners[name]) {
							t.Fatalf("%v got %s on %s: %q", who.Subject, action, name, asked)
						}
					case action != Pull:
						t.Fatalf("%s is no action on a repository", action)
					}
				}
			}
		}
		// And what was asked for and may be had is there.
		if who.Handle == "alice.test" && slices.Contains(asked, "repository:alice.test/app:pull,push") && !claims.Allows("alice.test/app", Push) {
			t.Fatalf("the owner did not get push: %q", asked)
		}
	})
}

// wasAsked reads scopes as the specification writes them, by comparison of whole strings.
func wasAsked(asked []string, kind, name, action string) bool {
	for _, list := range actions {
		words := strings.Split(list, ",")
		if !slices.Contains(words, action) && !slices.Contains(words, "*") {
			continue
		}
		if slices.Contains(asked, kind+":"+name+":"+list) || slices.Contains(asked, kind+"(plugin):"+name+":"+list) {
			return true
		}
	}
	return false
}
