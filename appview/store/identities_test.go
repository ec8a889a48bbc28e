package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/store"
)

func TestAnIdentityIsFoundByDIDAndByTheHandleThatItHadLast(t *testing.T) {
	all(t, func(t *testing.T, db *store.DB) {
		a := store.Identity{DID: "did:plc:a", Handle: "a.test", Document: `{"id":"did:plc:a"}`, FoundAt: time.Unix(100, 0)}
		require.NoError(t, db.SaveIdentity(t.Context(), a))
		for _, id := range []string{a.DID, a.Handle} {
			got, err := db.Identity(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, a, *got)
		}
		for _, id := range []string{"", "b.test", "did:plc:b"} {
			_, err := db.Identity(t.Context(), id)
			require.ErrorIs(t, err, store.ErrNotFound, "%q", id)
			require.NoError(t, db.ForgetIdentity(t.Context(), id))
		}

		b := store.Identity{DID: "did:plc:b", Handle: "a.test", Document: `{"id":"did:plc:b"}`, FoundAt: time.Unix(90, 0)}
		require.NoError(t, db.SaveIdentity(t.Context(), b))
		got, err := db.Identity(t.Context(), "a.test")
		require.NoError(t, err)
		require.Equal(t, b, *got, "the handle has moved")
		got, err = db.Identity(t.Context(), a.DID)
		require.NoError(t, err)
		require.Empty(t, got.Handle)

		require.NoError(t, db.ForgetIdentity(t.Context(), "a.test"))
		_, err = db.Identity(t.Context(), "a.test")
		require.ErrorIs(t, err, store.ErrNotFound)
		require.NoError(t, db.ForgetIdentity(t.Context(), b.DID))
		_, err = db.Identity(t.Context(), b.DID)
		require.ErrorIs(t, err, store.ErrNotFound)

		require.NoError(t, db.SweepIdentities(t.Context(), time.Unix(100, 0)))
		_, err = db.Identity(t.Context(), a.DID)
		require.NoError(t, err)
		require.NoError(t, db.SweepIdentities(t.Context(), time.Unix(101, 0)))
		_, err = db.Identity(t.Context(), a.DID)
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}
