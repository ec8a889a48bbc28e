package hold_test

import (
	"bytes"
	"net/http"
	"net/url"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/observe"
)

// The table of facts/atcr-protocol.md 2.4.
func TestWhoMayReadAndWrite(t *testing.T) {
	const admin = bob
	for _, tt := range []struct {
		name   string
		public bool
		crew   map[string][]string
		status map[string][2]int // handle -> read, write
	}{
		{"private hold", false, map[string][]string{bob: {"blob:read"}, carol: {"blob:write"}}, map[string][2]int{
			nobody: {401, 401}, mallory: {403, 403}, bob: {307, 403}, carol: {307, 200}, alice: {307, 200},
		}},
		{"public hold", true, map[string][]string{bob: {"blob:read"}, carol: {"blob:write"}}, map[string][2]int{
			nobody: {307, 401}, mallory: {307, 403}, bob: {307, 403}, carol: {307, 200}, alice: {307, 200},
		}},
		{"admin", false, map[string][]string{admin: {"crew:admin"}}, map[string][2]int{admin: {307, 200}}},
		{"a member without permissions", false, map[string][]string{bob: {}}, map[string][2]int{bob: {403, 403}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *hold.Config) { c.Public = tt.public })
			d := w.push(alice, []byte("x"))
			for handle, perms := range tt.crew {
				w.addCrew(handle, perms...)
			}
			for handle, want := range tt.status {
				require.Equal(t, want[0], w.getBlob(handle, alice, d).status, "read as %q", handle)
				a := w.call(handle, "io.atcr.hold.initiateUpload", object{"digest": "x"})
				require.Equal(t, want[1], a.status, "write as %q: %s", handle, a.body)
				if a.status == http.StatusUnauthorized {
					require.Equal(t, "AuthRequired", a.errorName())
				}
			}
		})
	}
}

func TestOnAPrivateHoldAnAbsentBlobLooksLikeAnyOther(t *testing.T) {
	w := newWorld(t, nil)
	there := w.push(alice, []byte("there"))
	// seen is all of an answer but what differs from one to the next, and the digest.
	seen := func(handle, method string, d digest.Digest) reply {
		a := w.send(method, w.url+"/xrpc/com.atproto.sync.getBlob?"+blobParams(w.did(alice), d).Encode(), w.token(handle), nil)
		a.header.Del("Date")
		a.header.Del(observe.RequestIDHeader)
		a.body = bytes.ReplaceAll(a.body, []byte(d), []byte("digest"))
		return a
	}
	for handle, status := range map[string]int{nobody: http.StatusUnauthorized, mallory: http.StatusForbidden} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			absent := seen(handle, method, digest.FromString("absent"))
			require.Equal(t, status, absent.status)
			require.Equal(t, absent, seen(handle, method, there), "%s by %q", method, handle)
		}
	}
}

func TestOnlyCaptainAndAdminsWriteTheRepository(t *testing.T) {
	w := newWorld(t, nil)
	w.addCrew(bob, "blob:write")
	w.addCrew(carol, "crew:admin")
	write := func(handle string) int {
		return w.call(handle, "com.atproto.repo.createRecord", object{
			"repo": w.hold.DID(), "collection": "io.atcr.hold.crew",
			"record": object{"$type": "io.atcr.hold.crew", "member": w.did(mallory), "role": "member", "permissions": []string{"blob:read"},
				"addedAt": "2026-01-01T00:00:00.000Z"},
		}).status
	}
	require.Equal(t, http.StatusUnauthorized, write(nobody))
	require.Equal(t, http.StatusForbidden, write(mallory))
	require.Equal(t, http.StatusForbidden, write(bob))
	require.Equal(t, http.StatusOK, write(carol))
}

func TestARemovedMemberLosesAccessAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.addCrew(bob, "blob:write")
	require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
	w.removeCrew(alice, bob)
	require.Equal(t, http.StatusForbidden, w.call(bob, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
}

func TestTheHoldStartsWithItsCaptainAndOwner(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { c.Public = true; c.AllowAllCrew = true })
	captains := w.records("io.atcr.hold.captain")
	require.Len(t, captains, 1)
	require.Equal(t, "at://"+w.hold.DID().String()+"/io.atcr.hold.captain/self", captains[0].URI)
	require.Equal(t, w.did(alice).String(), captains[0].Value["owner"])
	require.Equal(t, true, captains[0].Value["public"])
	require.Equal(t, true, captains[0].Value["allowAllCrew"])
	require.Equal(t, false, captains[0].Value["enableBlueskyPosts"])
	require.NotEmpty(t, captains[0].Value["deployedAt"])

	crew := w.records("io.atcr.hold.crew")
	require.Len(t, crew, 1)
	require.Equal(t, w.did(alice).String(), crew[0].Value["member"])
	require.Equal(t, "owner", crew[0].Value["role"])
	require.ElementsMatch(t, []any{"blob:read", "blob:write", "crew:admin"}, crew[0].Value["permissions"])
}

func TestSettingsAreSyncedAtEachStartAndOtherFieldsStay(t *testing.T) {
	w := newWorld(t, public)
	before := w.records("io.atcr.hold.captain")[0].Value
	before["region"], before["successor"] = "eu", "did:web:next.example.com"
	a := w.call(alice, "com.atproto.repo.putRecord", object{"repo": w.hold.DID(), "collection": "io.atcr.hold.captain", "rkey": "self", "record": before})
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)

	w.restart(func(c *hold.Config) { c.Public = false; c.AllowAllCrew = true; c.Owner = w.did(bob).String() })
	after := w.records("io.atcr.hold.captain")[0].Value
	require.Equal(t, false, after["public"])
	require.Equal(t, true, after["allowAllCrew"])
	require.Equal(t, w.did(bob).String(), after["owner"])
	require.Equal(t, "eu", after["region"])
	require.Equal(t, "did:web:next.example.com", after["successor"])
	require.Equal(t, before["deployedAt"], after["deployedAt"])
	crew := w.records("io.atcr.hold.crew")
	require.Len(t, crew, 1, "the old owner is none any more")
	require.Equal(t, w.did(bob).String(), crew[0].Value["member"])
	require.Equal(t, http.StatusForbidden, w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
}

func TestARestartWithoutChangesMakesNoCommit(t *testing.T) {
	w := newWorld(t, public)
	head := func() string {
		var out struct{ CID string }
		w.query(nobody, "com.atproto.sync.getLatestCommit", url.Values{"did": {w.hold.DID().String()}}).json(&out)
		require.NotEmpty(t, out.CID)
		return out.CID
	}
	before := head()
	w.restart(nil)
	require.Equal(t, before, head())
}

func TestRequestingCrew(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { c.AllowAllCrew = true })
	request := func(handle string, in object) reply { return w.call(handle, "io.atcr.hold.requestCrew", in) }
	require.Equal(t, http.StatusUnauthorized, request(nobody, object{}).status)

	a := request(bob, object{})
	require.Equal(t, http.StatusCreated, a.status, "%s", a.body)
	var out struct{ Status, URI, CID string }
	a.json(&out)
	require.Equal(t, "created", out.Status)
	require.NotEmpty(t, out.URI)
	require.NotEmpty(t, out.CID)
	a = request(bob, object{})
	require.Equal(t, http.StatusOK, a.status)
	a.json(&out)
	require.Equal(t, "already_member", out.Status)
	w.push(bob, []byte("x"))

	require.Equal(t, http.StatusCreated, request(carol, object{"role": "read"}).status)
	require.Equal(t, http.StatusForbidden, w.call(carol, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
	require.Equal(t, http.StatusBadRequest, request(mallory, object{"permissions": []string{"crew:admin"}}).status)
	require.Equal(t, http.StatusOK, request(alice, object{}).status)
	require.Len(t, w.records("io.atcr.hold.crew"), 3)
}

func TestAHoldThatTakesNoCrewSaysSo(t *testing.T) {
	w := newWorld(t, nil)
	a := w.call(bob, "io.atcr.hold.requestCrew", object{})
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "RegistrationDisabled", a.errorName())
	require.Contains(t, string(a.body), w.did(alice).String(), "the captain is named")
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.requestCrew", object{}).status)
}

func TestManyMembersAreAllKnown(t *testing.T) {
	w := newWorld(t, nil)
	var writes []object
	for i := range 150 { // more than a page
		writes = append(writes, object{"$type": "com.atproto.repo.applyWrites#create", "collection": "io.atcr.hold.crew",
			"value": object{"$type": "io.atcr.hold.crew", "member": "did:web:m" + string(rune('a'+i%26)) + ".example.com", "role": "member",
				"permissions": []string{}, "addedAt": "2026-01-01T00:00:00.000Z"}})
	}
	a := w.call(alice, "com.atproto.repo.applyWrites", object{"repo": w.hold.DID(), "writes": writes})
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	w.addCrew(bob, "blob:write")
	w.restart(nil)
	require.Equal(t, http.StatusOK, w.call(bob, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
}

func TestACaptainRecordThatAnAdminWroteWronglyTakesNothingFromTheRoster(t *testing.T) {
	w := newWorld(t, nil)
	w.addCrew(bob, "blob:write")
	w.addCrew(carol, "crew:admin")
	a := w.call(carol, "com.atproto.repo.putRecord", object{
		"repo": w.hold.DID(), "collection": "io.atcr.hold.captain", "rkey": "self",
		"record": object{"$type": "io.atcr.hold.captain", "owner": 1, "public": "yes", "deployedAt": 5},
	})
	require.Equal(t, http.StatusOK, a.status, "%s", a.body)
	w.removeCrew(carol, bob)
	require.Equal(t, http.StatusForbidden, w.call(bob, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status)
	require.Equal(t, http.StatusUnauthorized, w.getBlob(nobody, alice, digest.FromString("x")).status, "nothing is public by mistake")

	w.restart(nil)
	require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.initiateUpload", object{"digest": "x"}).status, "the settings are written again")
}

func TestTheSuccessorOfAHoldIsASetting(t *testing.T) {
	w := newWorld(t, func(c *hold.Config) { c.Successor = "did:web:next.example.com" })
	successor := func() any { return w.records("io.atcr.hold.captain")[0].Value["successor"] }
	require.Equal(t, "did:web:next.example.com", successor())
	w.restart(func(c *hold.Config) { c.Successor = "" })
	require.Equal(t, "did:web:next.example.com", successor(), "it stays until it is taken away")
	w.restart(func(c *hold.Config) { c.Successor = "none" })
	require.Nil(t, successor())

	w.close()
	w.cfg.Successor = w.hold.DID().String()
	_, err := hold.New(t.Context(), w.cfg, w.deps)
	require.ErrorContains(t, err, "HOLD_SUCCESSOR: "+w.hold.DID().String()+" is this hold itself")
	w.cfg.Successor = "https://next.example.com"
	require.ErrorContains(t, w.cfg.Validate(), `HOLD_SUCCESSOR: "https://next.example.com" is not the DID of a hold`)
}
