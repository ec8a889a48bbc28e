package hold

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/pds"
)

const (
	fuzzHold   = syntax.DID("did:web:hold.example.com")
	fuzzAlice  = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	fuzzNobody = syntax.DID("did:plc:nnnnnnnnnnnnnnnnnnnnnnnn")
)

// known is a directory of one account.
type known struct{ key atcrypto.PublicKey }

func (k known) ResolveDID(_ context.Context, did syntax.DID) (*atproto.Identity, error) {
	if did != fuzzAlice {
		return nil, atproto.ErrUnknownIdentity
	}
	return &atproto.Identity{DID: did, SigningKey: k.key}, nil
}

func (known) Purge(syntax.AtIdentifier) {}

// Whatever a client sends as a service token: it is taken for alice only with her signature over claims that are for this
// hold, this method and now; and what is wrong is said without repeating it.
func FuzzServiceToken(f *testing.F) {
	const method = "io.atcr.hold.initiateUpload"
	key, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(f, err)
	own, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(f, err)
	public, err := key.PublicKey()
	require.NoError(f, err)
	tokens := newTokens(fuzzHold, own, known{public})
	now := time.Now().Unix()
	good := fmt.Sprintf(`{"iss":%q,"aud":%q,"iat":%d,"exp":%d,"jti":"x","lxm":%q}`, fuzzAlice, fuzzHold, now, now+3000, method)
	const header = `{"alg":"ES256K","typ":"JWT"}`
	f.Add(header, good, true, "")
	f.Add(header, strings.Replace(good, method, "com.atproto.repo.getRecord", 1), true, "")
	f.Add(header, strings.Replace(good, string(fuzzHold), string(fuzzHold)+"#atcr_hold", 1), true, "")
	f.Add(header, strings.Replace(good, string(fuzzHold)+`"`, `did:web:other.example.com"`, 1), true, "")
	f.Add(header, strings.Replace(good, `"iss":"`+string(fuzzAlice), `"iss":"`+string(fuzzHold), 1), true, "")
	f.Add(header, good, false, "c2ln")
	f.Add(header, good, true, "AA")
	f.Add(header, good, true, ".e30")
	f.Add(`{"alg":"none"}`, good, false, "")
	f.Add(`{"alg":"ES256"}`, good, true, "")
	f.Add(`{"alg":["ES256K"],"crit":["x"],"jwk":{}}`, good, true, "")
	f.Add(header, `{"iss":{},"aud":[],"exp":1e400}`, true, "")
	f.Add(header, `{"iss":"`+string(fuzzAlice)+`","aud":["`+string(fuzzHold)+`"],"exp":99999999999}`, true, "")
	f.Add("", "", false, "")

	f.Fuzz(func(t *testing.T, header, claims string, signed bool, tail string) {
		raw := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		var sig []byte
		if signed {
			var err error
			sig, err = key.HashAndSign([]byte(raw))
			require.NoError(t, err)
		}
		raw += "." + base64.RawURLEncoding.EncodeToString(sig) + tail
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header["Authorization"] = []string{"Bearer " + raw}
		did, err := tokens.caller(r, method)
		if err != nil {
			e := xrpc.AsError(err)
			require.Contains(t, []int{http.StatusUnauthorized, http.StatusServiceUnavailable}, e.Status)
			require.True(t, strings.HasSuffix(e.Message, "."), e.Message)
			require.Less(t, len(e.Message), 600)
			require.True(t, claims == "" || len(claims) < 20 || !strings.Contains(e.Message, claims))
			return
		}
		require.True(t, signed, "nobody signed it")
		require.Equal(t, fuzzAlice, did)
		var h struct{ Alg string }
		require.NoError(t, json.Unmarshal([]byte(header), &h))
		require.Equal(t, "ES256K", h.Alg)
		var c struct {
			Iss string
			Aud jwt.ClaimStrings
			Exp *jwt.NumericDate
			Lxm string
		}
		require.NoError(t, json.Unmarshal([]byte(claims), &c))
		require.Equal(t, string(fuzzAlice), c.Iss)
		require.Len(t, c.Aud, 1)
		require.Contains(t, []string{string(fuzzHold), string(fuzzHold) + "#atcr_hold"}, c.Aud[0])
		require.WithinDuration(t, time.Now().Add(maxTokenLife/2), c.Exp.Time, maxTokenLife/2+2*tokenLeeway)
		require.Contains(t, []string{"", method, lxmGetRecord}, c.Lxm)
	})
}

// Whatever an admin, or another program, writes as captain or crew record: the hold goes on, and nobody may do anything
// whom the record does not name.
func FuzzCaptainAndCrewRecords(f *testing.F) {
	for _, seed := range []string{
		`{"owner":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","public":true,"allowAllCrew":true}`, `{"owner":7}`, `{"owner":"did:plc:nnnnnnnnnnnnnnnnnnnnnnnn"}`,
		`{"member":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","role":"member","permissions":["blob:read"],"addedAt":"2026-01-01T00:00:00Z"}`,
		`{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","permissions":["crew:admin","blob:write"]}`, `{"member":"","permissions":["crew:admin"]}`,
		`{"member":["did:plc:nnnnnnnnnnnnnnnnnnnnnnnn"],"permissions":"crew:admin"}`, `{"member":"did:web:localhost%3A1","permissions":[null,1,{}],"tier":7}`,
		`{"MEMBER":"did:plc:nnnnnnnnnnnnnnnnnnnnnnnn","permissions":["blob:read"],"plankowner":"yes"}`, `{}`, `{"permissions":{"crew:admin":true}}`,
	} {
		f.Add([]byte(seed), []byte(seed))
		f.Add([]byte(`{"owner":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","public":true}`), []byte(seed))
	}
	engine, err := pds.Open(f.Context(), pds.Config{Dir: f.TempDir()})
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, engine.Close()) })
	key, err := atcrypto.GeneratePrivateKeyK256()
	require.NoError(f, err)
	require.NoError(f, engine.CreateRepo(f.Context(), pds.NewRepo{DID: fuzzHold, Key: key}))
	r := &roster{engine: engine, did: fuzzHold}

	f.Fuzz(func(t *testing.T, first, second []byte) {
		captain, err := pds.ParseRecord(first)
		if err != nil {
			return
		}
		crew, err := pds.ParseRecord(second)
		if err != nil {
			return
		}
		delete(captain, "$type") // which each collection has of its own
		delete(crew, "$type")
		_, _, err = engine.ApplyWrites(t.Context(), fuzzHold, []pds.Write{
			{Op: pds.Put, Collection: captainCollection, RKey: captainKey, Value: captain},
			{Op: pds.Put, Collection: crewCollection, RKey: "somebody", Value: crew},
		}, cid.Undef)
		if err != nil {
			return // no record of the data model
		}
		require.NoError(t, r.reload(t.Context()))
		require.True(t, r.may(fuzzHold, crewAdmin), "the hold's key is never locked out")
		require.False(t, r.may("", blobRead))
		for _, did := range []syntax.DID{fuzzAlice, fuzzNobody} {
			owner, member := spoken(captain, string(did)), spoken(crew, string(did))
			require.False(t, r.member(did) && !member, "%s is a member by %s", did, second)
			for _, p := range []permission{blobRead, blobWrite, crewAdmin} {
				given := member && (given(crew, p) || given(crew, crewAdmin) || p == blobRead && given(crew, blobWrite))
				require.False(t, r.may(did, p) && !owner && !given, "%s may %s by %s and %s", did, p, first, second)
			}
		}
		if r.get().Owner != "" && canonical(r.get().Owner) == fuzzAlice {
			require.True(t, r.may(fuzzAlice, crewAdmin), "whoever owns the hold is never locked out: %s", second)
		}
	})
}

// spoken says whether a field of a record is a DID, in any spelling.
func spoken(value map[string]any, did string) bool {
	for _, v := range value {
		if s, ok := v.(string); ok && canonical(syntax.DID(s)) == syntax.DID(did) {
			return true
		}
	}
	return false
}

// given says whether a list in a record has a permission.
func given(value map[string]any, p permission) bool {
	for _, v := range value {
		if list, ok := v.([]any); ok && slices.Contains(list, any(string(p))) {
			return true
		}
	}
	return false
}
