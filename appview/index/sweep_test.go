package index

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

// bare is a mirror over an empty database, at a time of the test's choice, with room for limit bytes in the store.
func bare(t *testing.T, e storetest.Engine, now *time.Time, limit int64) *Mirror {
	return New(Config{Store: e.Open(t), Log: slog.New(slog.DiscardHandler), TTL: time.Second, CacheBytes: 1 << 20, StoreBytes: limit,
		Now: func() time.Time { return *now }})
}

// hold writes the bytes of a manifest into the store, and its row, unless blobCID is "none".
func hold(t *testing.T, m *Mirror, text, blobCID string) digest.Digest {
	t.Helper()
	d := digest.FromString(text)
	require.NoError(t, m.Store.Write(t.Context(), func(tx store.Tx) error {
		if blobCID != "none" {
			c := change{putManifests: []*Manifest{{DID: fuzzDID, Digest: d, RKey: d.Encoded(), CID: "c", Repository: "app",
				MediaType: "a/b", Size: int64(len(text)), BlobCID: blobCID, Repositories: []string{"app"}}}}
			if err := c.apply(t.Context(), tx, fuzzDID); err != nil {
				return err
			}
		}
		return keepBytes(t.Context(), tx, d, []byte(text), m.Now())
	}))
	return d
}

func held(t *testing.T, m *Mirror, d digest.Digest) bool {
	t.Helper()
	b, err := m.storedBytes(t.Context(), d)
	require.NoError(t, err)
	return b != nil
}

func TestManifestBytesGoWhenTheyAreNotUsedAndStayWhenNobodyElseHasThem(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		m := bare(t, e, &now, 1<<20)
		orphan, readable, only, served := hold(t, m, "orphan", "none"), hold(t, m, "readable", "blob"), hold(t, m, "only", ""), hold(t, m, "served", "blob")

		now = now.Add(bytesOrphans)
		require.NoError(t, m.Sweep(t.Context()))
		require.True(t, held(t, m, orphan), "it may have been read just now")
		now = now.Add(time.Second)
		require.NoError(t, m.Sweep(t.Context()))
		require.False(t, held(t, m, orphan))
		require.True(t, held(t, m, readable))

		now = now.Add(bytesUnused - 2*bytesOrphans)
		_, err := m.Bytes(t.Context(), &Manifest{DID: fuzzDID, Digest: served, Size: 6})
		require.NoError(t, err)
		require.NoError(t, m.Sweep(t.Context()))
		require.True(t, held(t, m, readable))
		now = now.Add(2 * bytesOrphans)
		require.NoError(t, m.Sweep(t.Context()))
		require.False(t, held(t, m, readable), "90 days unused: it is read again from the PDS")
		require.True(t, held(t, m, served), "used from memory is used")
		require.True(t, held(t, m, only), "no PDS has it")
	})
}

func TestManifestBytesBeyondTheBoundGoOldestFirst(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		m := bare(t, e, &now, 100_000)
		only := hold(t, m, strings.Repeat("o", 10_000), "")
		var all []digest.Digest
		for i := range sweepBatch + 50 {
			now = now.Add(time.Millisecond)
			all = append(all, hold(t, m, fmt.Sprintf("%0720d", i), "blob")) // 180,000 bytes together
		}
		now = now.Add(time.Second)
		require.NoError(t, m.Sweep(t.Context()))
		require.True(t, held(t, m, only), "no PDS has it")
		require.False(t, held(t, m, all[0]))
		require.False(t, held(t, m, all[124]))
		require.True(t, held(t, m, all[125]), "what remains fits")
		require.True(t, held(t, m, all[len(all)-1]))
	})
}

func TestWhoeverWritesRecordsWithoutBytesTakesTheRoomOfNobodyElse(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		m := bare(t, e, &now, 100_000)
		served := hold(t, m, "served", "blob")
		var pinned []digest.Digest
		for i := range 13 {
			now = now.Add(time.Millisecond)
			pinned = append(pinned, hold(t, m, fmt.Sprintf("%010000d", i), "")) // as another DID's record had them read
		}
		now = now.Add(time.Second)
		require.NoError(t, m.Sweep(t.Context()))
		require.True(t, held(t, m, served))
		require.False(t, held(t, m, pinned[0]))
		require.False(t, held(t, m, pinned[11]))
		require.True(t, held(t, m, pinned[12]), "an eighth of the room is theirs")
	})
}
