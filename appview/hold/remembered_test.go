package hold

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"
)

func TestARememberedTokenIsGoodUntilItEndsOrItsIssuerHasAnotherKey(t *testing.T) {
	const self = syntax.DID("did:web:hold.example.com")
	public := func() (atcrypto.PrivateKeyExportable, atcrypto.PublicKey) {
		private, err := atcrypto.GeneratePrivateKeyK256()
		require.NoError(t, err)
		key, err := private.PublicKey()
		require.NoError(t, err)
		return private, key
	}
	own, key := public()
	_, former := public()
	for name, tt := range map[string]struct {
		verifiedToken
		good bool
	}{
		"as it was":          {verifiedToken{issuer: self, key: key, ends: time.Now().Add(time.Hour)}, true},
		"for this method":    {verifiedToken{issuer: self, key: key, method: "m", ends: time.Now().Add(time.Hour)}, true},
		"for another method": {verifiedToken{issuer: self, key: key, method: "other", ends: time.Now().Add(time.Hour)}, false},
		"ended":              {verifiedToken{issuer: self, key: key, ends: time.Now().Add(-time.Second)}, false},
		"by a former key":    {verifiedToken{issuer: self, key: former, ends: time.Now().Add(time.Hour)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tokens := newTokens(self, own, nil)
			tokens.verified.Add(sha256.Sum256([]byte("token")), tt.verifiedToken) // which no signature makes good again
			did, err := tokens.verify(t.Context(), "token", "m")
			if tt.good {
				require.NoError(t, err)
				require.Equal(t, self, did)
				return
			}
			require.Error(t, err)
			_, err = tokens.verify(t.Context(), "another", "m")
			require.Error(t, err)
		})
	}
}
