package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/store"
)

func refreshToken(hash, credential string, used int64) store.RefreshToken {
	return store.RefreshToken{Hash: hash, Credential: credential, DID: "did:plc:a", Client: "docker", CreatedAt: time.Unix(50, 0), UsedAt: time.Unix(used, 0)}
}

func TestOfACredentialTheRefreshTokensThatWereUsedLastStay(t *testing.T) {
	all(t, func(t *testing.T, db *store.DB) {
		has := func(hash string) bool {
			_, err := db.RefreshToken(t.Context(), hash)
			if err != nil {
				require.ErrorIs(t, err, store.ErrNotFound)
			}
			return err == nil
		}
		require.NoError(t, db.SaveRefreshToken(t.Context(), refreshToken("other", "d", 1), 3))
		for i := range 3 {
			require.NoError(t, db.SaveRefreshToken(t.Context(), refreshToken(fmt.Sprint(i), "c", int64(100+i)), 3))
		}
		require.NoError(t, db.TouchRefreshToken(t.Context(), "0", time.Unix(200, 0)))
		require.NoError(t, db.SaveRefreshToken(t.Context(), refreshToken("3", "c", 50), 3))
		require.Equal(t, []bool{true, false, true, true, true}, []bool{has("0"), has("1"), has("2"), has("3"), has("other")},
			"the new one stays, whatever the clocks say")
		got, err := db.RefreshToken(t.Context(), "0")
		require.NoError(t, err)
		require.Equal(t, refreshToken("0", "c", 200), *got)

		require.NoError(t, db.DeleteRefreshTokens(t.Context(), "c"))
		require.Equal(t, []bool{false, false, false, true}, []bool{has("0"), has("2"), has("3"), has("other")})
	})
}

func TestRefreshTokensEndUnusedOrOld(t *testing.T) {
	all(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.SaveRefreshToken(t.Context(), refreshToken("unused", "c", 99), 9))
		require.NoError(t, db.SaveRefreshToken(t.Context(), refreshToken("used", "c", 100), 9))
		require.NoError(t, db.SweepRefreshTokens(t.Context(), time.Unix(100, 0), time.Unix(50, 0)))
		_, err := db.RefreshToken(t.Context(), "unused")
		require.ErrorIs(t, err, store.ErrNotFound)
		_, err = db.RefreshToken(t.Context(), "used")
		require.NoError(t, err)
		require.NoError(t, db.SweepRefreshTokens(t.Context(), time.Unix(100, 0), time.Unix(51, 0)))
		_, err = db.RefreshToken(t.Context(), "used")
		require.ErrorIs(t, err, store.ErrNotFound, "however much it is used")
	})
}
