package peers_test

import (
	"net/http"
	"testing"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/plc"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/test/peers/referencepds"
)

// The hold's own did:plc on the reference PLC directory: made, found by indigo and by the AppView, named in service
// tokens of the reference PDS, and moved.
func TestAHoldWithADidPLCOnTheReferenceDirectory(t *testing.T) {
	reference := referencepds.Start(t, referencepds.Options{})
	env := map[string]string{names.HoldDIDMethod: "plc", names.HoldPublic: "true", names.HoldAllowAllCrew: "true", names.HoldDatabaseDir: t.TempDir()}
	first := startHold(t, reference, env)
	r := &registry{t, reference, first, startAppView(t, reference, first)}
	r.push("alice.test", "alice.test/app:latest", randomImage(t))
	img := randomImage(t)
	r.push("bob.test", "bob.test/app:latest", img)
	r.requireImage(img, "bob.test/app:latest")

	directory := identity.BaseDirectory{PLCURL: reference.PLCURL}
	lookup := func() *identity.Identity {
		id, err := directory.LookupDID(t.Context(), syntax.DID(first.did))
		require.NoError(t, err)
		return id
	}
	require.Equal(t, first.url, lookup().PDSEndpoint())
	require.Equal(t, first.url, lookup().GetServiceEndpoint(diddoc.ServiceHold))
	key, err := lookup().PublicKey()
	require.NoError(t, err)
	requireValidRepo(t, get(t, first.url+"/xrpc/com.atproto.sync.getRepo?did="+first.did), first.did, key)

	first.stop()
	second := startHold(t, reference, env) // on another port
	require.Equal(t, first.did, second.did)
	require.NotEqual(t, first.url, second.url)
	require.Equal(t, second.url, lookup().PDSEndpoint())
	last, err := plc.Client{URL: reference.PLCURL, HTTP: http.DefaultClient}.Last(t.Context(), syntax.DID(first.did))
	require.NoError(t, err)
	require.NotNil(t, last.Prev)
}
