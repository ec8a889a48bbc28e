package hold_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/xrpc"
)

// appView is an AppView's identity: a did:web with a P-256 key.
func appView(t *testing.T) (syntax.DID, atcrypto.PrivateKey) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyP256()
	require.NoError(t, err)
	pub, err := key.PublicKey()
	require.NoError(t, err)
	var did string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		xrpc.WriteJSON(w, http.StatusOK, diddoc.Document{ID: did, VerificationMethod: []diddoc.VerificationMethod{
			{ID: did + "#atproto", Type: "Multikey", Controller: did, PublicKeyMultibase: pub.Multibase()},
		}})
	}))
	t.Cleanup(srv.Close)
	did = "did:web:localhost%3A" + srv.URL[strings.LastIndexByte(srv.URL, ':')+1:]
	return syntax.DID(did), key
}

func TestATrustedAppViewGivesTiers(t *testing.T) {
	trusted, key := appView(t)
	stranger, strangersKey := appView(t)
	w := newWorld(t, func(c *hold.Config) { tiered(c); c.AppViewDIDs = []string{trusted.String()} })
	w.join(bob)
	as := func(did syntax.DID, key atcrypto.PrivateKey) func(object) reply {
		return func(in object) reply {
			token, err := auth.SignServiceAuth(did, w.hold.DID().String(), time.Minute, nil, key)
			require.NoError(t, err)
			return w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.updateCrewTier", token, in)
		}
	}
	give := as(trusted, key)
	a := give(object{"userDid": w.did(bob), "tierRank": 2})
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	require.JSONEq(t, `{"tierName":"deckhand"}`, string(a.body))
	require.Equal(t, "deckhand", w.quotaOf(bob).Tier, "at once")
	require.Equal(t, "UserNotFound", give(object{"userDid": w.did(carol), "tierRank": 2}).errorName())
	for _, in := range []object{{"userDid": w.did(bob), "tierRank": 5}, {"userDid": w.did(bob), "tierRank": -1}, {"userDid": w.did(bob)}, {"userDid": "bob", "tierRank": 1}} {
		require.Equal(t, http.StatusBadRequest, give(in).status, "%v", in)
	}
	require.Equal(t, http.StatusForbidden, as(stranger, strangersKey)(object{"userDid": w.did(bob), "tierRank": 0}).status)
	require.Equal(t, http.StatusUnauthorized, as(trusted, strangersKey)(object{"userDid": w.did(bob), "tierRank": 0}).status)
	require.Equal(t, http.StatusForbidden, w.call(bob, "io.atcr.hold.updateCrewTier", object{"userDid": w.did(bob), "tierRank": 4}).status, "nobody promotes themselves")
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.updateCrewTier", object{"userDid": w.did(bob), "tierRank": 3}).status)
	require.Equal(t, "bosun", w.quotaOf(bob).Tier)

	// The AppView gives tiers, and has no other rights.
	token, err := auth.SignServiceAuth(trusted, w.hold.DID().String(), time.Minute, nil, key)
	require.NoError(t, err)
	require.Equal(t, http.StatusForbidden, w.send(http.MethodPost, w.url+"/xrpc/io.atcr.hold.initiateUpload", token, object{"digest": "x"}).status)
}

// admin is who has the hold's key file.
func (w *world) admin() *hold.Admin {
	w.t.Helper()
	cfg := w.cfg
	cfg.HTTPAddr = w.srv.Listener.Addr().String()
	a, err := hold.NewAdmin(w.t.Context(), cfg)
	require.NoError(w.t, err)
	return a
}

func TestTheOperatorManagesTheCrew(t *testing.T) {
	for name, change := range map[string]func(*hold.Config){"did:web": tiered, "did:plc": func(c *hold.Config) { tiered(c); onPLC(c) }} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, change)
			admin := w.admin()
			upload := func(handle string) int {
				return w.call(handle, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status
			}
			added, err := admin.SetMember(t.Context(), w.did(bob), "member", []string{"blob:write"})
			require.NoError(t, err)
			require.True(t, added)
			require.Equal(t, http.StatusOK, upload(bob))
			require.NoError(t, admin.SetTier(t.Context(), w.did(bob), "deckhand"))
			require.ErrorContains(t, admin.SetTier(t.Context(), w.did(bob), "admiral"), "deckhand")
			require.ErrorContains(t, admin.SetTier(t.Context(), w.did(carol), "deckhand"), "not in the crew")

			// A second record of the same member, from elsewhere: what is set afterwards is all there is.
			w.addCrew(bob, "crew:admin")
			added, err = admin.SetMember(t.Context(), w.did(bob), "read", []string{"blob:read"})
			require.NoError(t, err)
			require.False(t, added)
			require.Equal(t, http.StatusForbidden, upload(bob), "at once")
			crew, err := admin.Crew(t.Context())
			require.NoError(t, err)
			require.Len(t, crew, 2)
			for _, m := range crew {
				if m.DID == w.did(bob) {
					require.Equal(t, []string{"blob:read"}, m.Permissions)
					require.Equal(t, "deckhand", m.Tier, "the rest of the record stays")
					require.NotEmpty(t, m.AddedAt)
				}
			}

			require.NoError(t, admin.RemoveMember(t.Context(), w.did(bob)))
			require.ErrorContains(t, admin.RemoveMember(t.Context(), w.did(bob)), "not in the crew")
			require.ErrorContains(t, admin.RemoveMember(t.Context(), w.did(alice)), "HOLD_OWNER")
			_, err = admin.SetMember(t.Context(), w.did(alice), "read", []string{"blob:read"})
			require.Error(t, err, "the owner is not made less")
			_, err = admin.SetMember(t.Context(), w.did(bob), "member", []string{"blob:everything"})
			require.ErrorContains(t, err, "blob:everything")
			require.Equal(t, http.StatusOK, upload(alice))
		})
	}
}

func TestACrewOfSeveralPagesIsListedWhole(t *testing.T) {
	w := newWorld(t, nil)
	var writes []object
	for i := range 150 {
		writes = append(writes, object{"$type": "com.atproto.repo.applyWrites#create", "collection": "io.atcr.hold.crew",
			"value": object{"$type": "io.atcr.hold.crew", "member": "did:web:m" + strings.Repeat("x", i+1) + ".example.com", "role": "member",
				"permissions": []string{}, "addedAt": "2026-01-01T00:00:00.000Z"}})
	}
	a := w.call(alice, "com.atproto.repo.applyWrites", object{"repo": w.hold.DID(), "writes": writes})
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	crew, err := w.admin().Crew(t.Context())
	require.NoError(t, err)
	seen := map[syntax.DID]bool{}
	for _, m := range crew {
		seen[m.DID] = true
	}
	require.Len(t, seen, 151)
}

func TestOnlyTheHoldsKeyFileSpeaksForTheHold(t *testing.T) {
	w := newWorld(t, nil)
	other, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(t, err)
	path := w.cfg.DatabaseDir + "/hold.key"
	original, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte(other.Multibase()), 0o600))
	_, err = w.admin().SetMember(t.Context(), w.did(bob), "member", []string{"blob:write"})
	require.ErrorContains(t, err, "signed")
	require.NoError(t, os.WriteFile(path, original, 0o600))
	w.close()
	cfg := w.cfg
	cfg.HTTPAddr = "127.0.0.1:1"
	_, err = hold.NewAdmin(t.Context(), cfg)
	require.ErrorContains(t, err, "start it first")
}

func TestAMemberIsNamedByHandleOrDID(t *testing.T) {
	w := newWorld(t, nil)
	did, err := hold.ResolveMember(t.Context(), w.cfg, "did:web:localhost:8080")
	require.NoError(t, err)
	require.Equal(t, syntax.DID("did:web:localhost%3A8080"), did)
	_, err = hold.ResolveMember(t.Context(), w.cfg, "not a name")
	require.Error(t, err)
}
