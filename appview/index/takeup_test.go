package index

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

// plain is a manifest of three rows, made at a time.
func plain(n int) *Manifest {
	d := digest.FromString(fmt.Sprint("plain ", n))
	return &Manifest{DID: fuzzDID, Digest: d, RKey: d.Encoded(), CID: "c", Repository: "app", MediaType: "a/b", Size: 1, BlobCID: "b",
		Repositories: []string{"app", "b"}, at: int64(n)}
}

func tagFor(m *Manifest, at int64) *Tag {
	return &Tag{RKey: "t" + m.RKey, CID: "c", Repository: "app", Tag: "t" + m.RKey[:8], Digest: m.Digest, UpdatedAt: at}
}

func TestOfMoreRecordsThanAreMirroredTheNewestStay(t *testing.T) {
	const all, limit = 200, 60
	l := newListed(limit)
	var rows []*Manifest
	for i := range all {
		rows = append(rows, plain(i))
	}
	l.tags = append(l.tags, tagFor(rows[3], 5_000), tagFor(rows[4], 0))
	index := plain(1_000)
	index.Children = []digest.Digest{rows[1].Digest}
	for _, row := range append([]*Manifest{index}, rows...) {
		l.add(row)
		require.LessOrEqual(t, l.rows, limit+limit/4, "no more are held while they are read")
	}
	l.finish()
	require.LessOrEqual(t, l.rows+len(l.tags), limit)
	kept := map[digest.Digest]bool{}
	for _, m := range l.manifests {
		kept[m.Digest] = true
	}
	require.True(t, kept[rows[3].Digest], "a new tag names it")
	require.True(t, kept[index.Digest] && kept[rows[1].Digest], "a new index, with its entry")
	require.True(t, kept[rows[all-1].Digest] && kept[rows[all-10].Digest])
	require.False(t, kept[rows[4].Digest] || kept[rows[100].Digest])
	require.Equal(t, []*Tag{tagFor(rows[3], 5_000)}, l.tags, "and no tag without its manifest")
	require.Equal(t, all+1+2, len(l.manifests)+len(l.tags)+l.dropped)

	l = newListed(limit)
	for i := range 3 * limit {
		l.tags = append(l.tags, tagFor(rows[0], int64(i)))
	}
	l.add(rows[0])
	l.finish()
	require.Len(t, l.tags, limit-3)
	require.EqualValues(t, 3*limit-1, l.tags[0].UpdatedAt)
	require.Len(t, l.manifests, 1)
}

func TestARecordListsNoMoreRepositoriesThanOneOfOurs(t *testing.T) {
	of := func(repository string, names ...string) []string {
		value, err := json.Marshal(map[string]any{"repository": repository, "digest": digest.FromString("x"), "mediaType": "a/b", "repositories": names})
		require.NoError(t, err)
		row, err := manifestOf(fuzzDID, atproto.Record{Value: value})
		require.NoError(t, err)
		return row.Repositories
	}
	require.Equal(t, []string{"app", "team/app"}, of("app", "team/app", "", "../../etc", "UPPER", "a b", "a\x00", strings.Repeat("x", 300)))
	require.Empty(t, of("../../etc"))
	var long []string
	for i := range 400 {
		long = append(long, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 200)))
	}
	kept := of("zz", long...)
	require.LessOrEqual(t, len(strings.Join(kept, "")), maxRepoBytes+2)
	require.Contains(t, kept, "zz")
	_, err := tagOf(fuzzDID, atproto.Record{Value: []byte(`{"repository":"../x","tag":"v1","manifestDigest":"sha256:` + fuzzHex + `","createdAt":"2026-01-01T00:00:00Z"}`)})
	require.Error(t, err)
}

func count(t *testing.T, m *Mirror, query string) (n int) {
	t.Helper()
	require.NoError(t, m.Store.ReadOne(t.Context(), func(q store.Querier) error { return q.QueryRowContext(t.Context(), query).Scan(&n) }))
	return n
}

const tagsWithoutManifest = `SELECT count(*) FROM tags t WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.did = t.did AND m.digest = t.digest)`

// big is a list of n manifests from one on, each with a tag.
func big(from, n int) *listed {
	l := newListed(maxRows)
	for i := from; i < from+n; i++ {
		l.add(plain(i))
		l.tags = append(l.tags, tagFor(plain(i), int64(i)))
	}
	return l
}

func TestALargeChangeIsMadeInPartsThatReadersMaySee(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		now := time.Now()
		m := bare(t, e, &now, 1<<20)
		at := func() head {
			h, err := m.head(t.Context(), fuzzDID)
			require.NoError(t, err)
			return h
		}
		// The last of the manifests cannot be written: this is where the process might as well have died.
		torn := func(from, n int) *listed {
			l := big(from, n)
			l.manifests = append(l.manifests, plain(from))
			return l
		}
		_, err := m.takeUp(t.Context(), fuzzDID, torn(0, 800), head{rev: "1", commit: "a"}, now)
		require.Error(t, err)
		require.Positive(t, count(t, m, `SELECT count(*) FROM manifests`), "a part is there")
		require.Zero(t, count(t, m, `SELECT count(*) FROM tags`), "tags come after all manifests")
		require.False(t, at().known, "what was never read whole is not known")

		h, err := m.takeUp(t.Context(), fuzzDID, big(0, 800), head{rev: "1", commit: "a"}, now)
		require.NoError(t, err)
		require.Equal(t, "a", h.commit)
		require.Equal(t, 800, count(t, m, `SELECT count(*) FROM tags`))
		require.True(t, at().known)

		// Another 800 come, the first 700 go.
		before := at()
		_, err = m.takeUp(t.Context(), fuzzDID, torn(700, 900), head{rev: "2", commit: "b"}, now)
		require.Error(t, err)
		require.Equal(t, "1", at().rev)
		require.Empty(t, at().commit, "the next look at the PDS reads all of it")
		require.Equal(t, 800, count(t, m, `SELECT count(*) FROM tags`))
		require.Zero(t, count(t, m, tagsWithoutManifest))

		l := big(700, 900)
		c, err := read(t.Context(), m.Store, func(q querier) (*change, error) { return m.difference(t.Context(), q, fuzzDID, l) })
		require.NoError(t, err)
		parts := c.parts(partRows)
		require.Greater(t, len(parts), 10)
		for _, p := range parts {
			rows := len(p.putTags) + len(p.deleteTags) + deleteRows*len(p.deleteManifests)
			for _, m := range p.putManifests {
				rows += m.rows()
			}
			require.LessOrEqual(t, rows, partRows)
			require.NoError(t, m.Store.Write(t.Context(), func(tx store.Tx) error { return p.apply(t.Context(), tx, fuzzDID) }))
			require.Zero(t, count(t, m, tagsWithoutManifest))
		}
		_, err = m.takeUp(t.Context(), fuzzDID, l, head{rev: "2", commit: "b"}, now)
		require.NoError(t, err)
		require.Equal(t, "b", at().commit)
		require.Equal(t, 900, count(t, m, `SELECT count(*) FROM manifests`))
		require.Greater(t, at().generation, before.generation)

		// A write of another replica's, to a repository of which this one has an older list.
		require.NoError(t, m.Store.Write(t.Context(), func(tx store.Tx) error { return writeHead(t.Context(), tx, fuzzDID, head{rev: "4"}, now) }))
		_, err = m.takeUp(t.Context(), fuzzDID, big(0, 10), head{rev: "3", commit: "c"}, now)
		require.ErrorIs(t, err, errOvertaken)
		require.Equal(t, 900, count(t, m, `SELECT count(*) FROM manifests`))
	})
}

func TestMirrorsThatNobodyAsksForGo(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
		m := bare(t, e, &now, 1<<20)
		_, err := m.takeUp(t.Context(), fuzzDID, big(0, 700), head{rev: "1", commit: "a"}, now)
		require.NoError(t, err)
		first, err := m.head(t.Context(), fuzzDID)
		require.NoError(t, err)
		readAt := func() int { return count(t, m, `SELECT read_at FROM mirrors`) }

		for range 3 { // 60 days, but somebody pulls by digest now and then, which asks no PDS
			now = now.Add(20 * 24 * time.Hour)
			for range 100 {
				_, err = m.Manifest(t.Context(), fuzzDID, "app", plain(1).Digest)
				require.NoError(t, err)
			}
			require.NoError(t, m.Sweep(t.Context()))
			require.EqualValues(t, day(now), readAt())
		}
		set := func(to int64) {
			require.NoError(t, m.Store.Write(t.Context(), func(tx store.Tx) error {
				_, err := tx.ExecContext(t.Context(), `UPDATE mirrors SET read_at = $1`, to)
				return err
			}))
		}
		set(day(now) - 1)
		_, err = m.Manifest(t.Context(), fuzzDID, "app", plain(1).Digest)
		require.NoError(t, err)
		require.NoError(t, m.Sweep(t.Context()))
		require.EqualValues(t, day(now)-1, readAt(), "nothing is written a second time on one day")

		now = now.Add(unread - 24*time.Hour)
		require.NoError(t, m.Sweep(t.Context()))
		require.Equal(t, 700, count(t, m, `SELECT count(*) FROM manifests`))
		set(0)
		now = now.Add(3 * 24 * time.Hour)
		require.NoError(t, m.Sweep(t.Context()))
		require.Equal(t, 700, count(t, m, `SELECT count(*) FROM manifests`), "a replica of an older release does not note it")
		set(day(now.Add(-unread)) - 1)
		require.NoError(t, m.Sweep(t.Context()))
		for _, table := range []string{"mirrors", "tags", "manifests", "manifest_repositories", "manifest_refs"} {
			require.Zero(t, count(t, m, `SELECT count(*) FROM `+table), table)
		}
		_, err = m.takeUp(t.Context(), fuzzDID, big(0, 1), head{rev: "1", commit: "a"}, now)
		require.NoError(t, err)
		again, err := m.head(t.Context(), fuzzDID)
		require.NoError(t, err)
		require.Greater(t, again.generation, first.generation+1000, "what was remembered of the former mirror is not taken for this one's")
	})
}

// Accounts are free, and each may fill a mirror.
func TestAllMirrorsTogetherHaveABound(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
		m := bare(t, e, &now, 1<<20)
		dids := map[string]syntax.DID{"stale": "did:plc:stale", "large": "did:plc:large", "small": "did:plc:small", "used": fuzzDID}
		for name, did := range dids {
			n := map[string]int{"stale": 10, "large": 300, "small": 20, "used": 30}[name]
			_, err := m.takeUp(t.Context(), did, big(0, n), head{rev: "1", commit: "a"}, now)
			require.NoError(t, err)
			require.NoError(t, m.Store.Write(t.Context(), func(tx store.Tx) error {
				ago := map[string]time.Duration{"stale": 48 * time.Hour, "large": 24 * time.Hour, "small": 24 * time.Hour}[name]
				_, err := tx.ExecContext(t.Context(), `UPDATE mirrors SET read_at = $1 WHERE did = $2`, day(now.Add(-ago)), string(did))
				return err
			}))
		}
		known := func() (names []string) {
			for name, did := range dids {
				if h, err := m.head(t.Context(), did); err == nil && h.known {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			return names
		}
		all := int64(count(t, m, `SELECT sum(row_count) FROM mirrors`))
		require.GreaterOrEqual(t, all, int64(2*360), "a manifest and its tag are rows")

		m.allRows = all
		require.NoError(t, m.Sweep(t.Context()))
		require.Equal(t, []string{"large", "small", "stale", "used"}, known())
		m.allRows = all - 1
		require.NoError(t, m.Sweep(t.Context()))
		require.Equal(t, []string{"large", "small", "used"}, known(), "whom nobody asked for since longest")
		m.allRows = int64(count(t, m, `SELECT sum(row_count) FROM mirrors`)) - 1
		require.NoError(t, m.Sweep(t.Context()))
		require.Equal(t, []string{"small", "used"}, known(), "then who has the most")
		require.Equal(t, 50, count(t, m, `SELECT count(*) FROM manifests`))
		require.Equal(t, 50, count(t, m, `SELECT count(*) FROM tags`))

		_, err := m.takeUp(t.Context(), dids["large"], big(0, 5), head{rev: "2", commit: "b"}, now)
		require.NoError(t, err)
		require.Equal(t, []string{"large", "small", "used"}, known(), "it is read again when somebody asks")
	})
}
