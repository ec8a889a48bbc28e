package index

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/oci/spec"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

// annotated is the row of a record with annotations.
func annotated(t *testing.T, n int, annotations map[string]string) *Manifest {
	t.Helper()
	value, err := json.Marshal(map[string]any{"repository": "app", "digest": digest.FromString(fmt.Sprint(n)), "mediaType": "application/vnd.example+json",
		"subject": map[string]any{"digest": digest.FromString("subject"), "size": 7}, "artifactType": "a/b", "annotations": annotations,
		"manifestBlob": map[string]any{"$type": "blob", "ref": map[string]any{"$link": "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"}, "mimeType": "a/b", "size": 7}})
	require.NoError(t, err)
	row, err := manifestOf(fuzzDID, atproto.Record{CID: "c", Value: value})
	require.NoError(t, err)
	return row
}

func tiny(n int) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprintf("%06d", i)] = ""
	}
	return all
}

func put(t *testing.T, m *Mirror, rows ...*Manifest) {
	t.Helper()
	require.NoError(t, m.Store.Write(t.Context(), func(tx store.Tx) error { return (&change{putManifests: rows}).apply(t.Context(), tx, fuzzDID) }))
}

func TestWhatIsRememberedOfAManifestIsSmallWhateverItsRecordSays(t *testing.T) {
	now := time.Now()
	m := bare(t, storetest.New(t, storetest.Memory), &now, 1<<20)
	for i, n := range []int{1, 5_000, 20_000} {
		row := annotated(t, i, tiny(n))
		require.LessOrEqual(t, len(row.Annotations), maxAnnotations)
		require.Equal(t, n < 20_000, row.Annotations != nil, "those of a usual number are listed")
		put(t, m, row)
		found, err := m.Manifest(t.Context(), fuzzDID, "app", row.Digest)
		require.NoError(t, err)
		require.Nil(t, found.Annotations)
	}
	require.Len(t, m.recent.Values(), 3)
	for _, kept := range m.recent.Values() {
		b, err := json.Marshal(kept.value)
		require.NoError(t, err)
		require.Less(t, len(b), 10*maxText)
	}
	whole, err := readOne(t.Context(), m.Store, func(q querier) (*Manifest, error) {
		return wholeManifest(t.Context(), q, fuzzDID, digest.FromString("1"))
	})
	require.NoError(t, err)
	require.NotEmpty(t, whole.Annotations, "who writes the row again writes them too")

	long := strings.Repeat("x", 1<<20)
	for _, field := range []string{"mediaType", "repository", "artifactType"} {
		record := map[string]any{"repository": "app", "digest": digest.FromString("x"), "mediaType": "a/b"}
		record[field] = long
		value, err := json.Marshal(record)
		require.NoError(t, err)
		row, err := manifestOf(fuzzDID, atproto.Record{Value: value})
		require.Equal(t, field == "artifactType", err == nil, field)
		if err == nil {
			require.Empty(t, row.ArtifactType)
		}
	}
}

func TestReadingReferrersEndsWhereTheirAnnotationsFillAPage(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		now := time.Now()
		m := bare(t, e, &now, 1<<20)
		var rows []*Manifest
		for i := range 40 {
			rows = append(rows, annotated(t, i, map[string]string{"k": strings.Repeat("x", 60_000)}))
		}
		put(t, m, rows...)
		m.queue(fuzzDID).syncedAt = now
		const room = 8 * maxAnnotations
		seen, last := map[digest.Digest]bool{}, ""
		for more := true; more; {
			var list []*Manifest
			var err error
			list, more, err = m.Referrers(t.Context(), fuzzDID, "app", digest.FromString("subject"), "", last, 500, room)
			require.NoError(t, err)
			read := 0
			for _, r := range list {
				require.False(t, seen[r.Digest])
				seen[r.Digest] = true
				read += len(r.Annotations)
			}
			require.LessOrEqual(t, read, room+maxAnnotations)
			require.True(t, !more || read > room, "a page is full unless it is the last")
			last = string(list[len(list)-1].Digest)
		}
		require.Len(t, seen, 40)

		require.NoError(t, m.Store.Write(t.Context(), func(tx store.Tx) error { // as a release without the limit wrote it
			_, err := tx.ExecContext(t.Context(), `UPDATE manifests SET annotations = $1`, `{"k":"`+strings.Repeat("x", maxAnnotations)+`"}`)
			return err
		}))
		list, more, err := m.Referrers(t.Context(), fuzzDID, "app", digest.FromString("subject"), "", "", 500, room)
		require.NoError(t, err)
		require.False(t, more)
		require.Len(t, list, 40)
		require.Nil(t, list[0].Annotations)
	})
}

func TestFewManifestsAreParsedAtATime(t *testing.T) {
	now := time.Now()
	m := bare(t, storetest.New(t, storetest.Memory), &now, 64<<20)
	m.bytes = newBodies(64 << 20)
	var rows []*Manifest
	for i := range 5 {
		text := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":1},"layers":[],"annotations":{"%d":"`, digest.FromString("c"), i)
		text += strings.Repeat("x", spec.MaxManifestSize-len(text)-3) + `"}}`
		d := digest.FromString(text)
		m.bytes.put(d, []byte(text))
		rows = append(rows, &Manifest{DID: fuzzDID, Digest: d})
	}
	const most = parseRoom / spec.MaxManifestSize
	inside := make(chan struct{}, len(rows))
	leave := make(chan struct{})
	var all errgroup.Group
	for _, row := range rows {
		all.Go(func() error {
			return m.Document(t.Context(), row, func(*spec.Document, int64) {
				inside <- struct{}{}
				<-leave
			})
		})
	}
	for range most {
		<-inside
	}
	require.False(t, m.parses.TryAcquire(1), "the others wait")
	require.Empty(t, inside)
	close(leave)
	require.NoError(t, all.Wait())
	require.Len(t, inside, len(rows)-most)
}

// Whoever asks chooses what pages are asked for by.
func TestPagesAreBoundedByWhatTheyAreAskedForByToo(t *testing.T) {
	const limit = 64 << 10
	c := newByteCache(limit, pageKey.size)
	asked := func(i int) pageKey {
		return pageKey{fuzzDID, 1, ReferrersKey{Repository: "app", Subject: digest.FromString("s"), ArtifactType: strings.Repeat("x", 1<<10), Last: fmt.Sprint(i)}}
	}
	for i := range 1000 {
		c.put(asked(i), []byte("[]"))
	}
	kept := 0
	for key, item := range c.items {
		kept += len(key.did) + len(key.Repository) + len(key.Subject) + len(key.ArtifactType) + len(key.Last) + len(item.body)
	}
	require.LessOrEqual(t, kept, limit)
	require.Greater(t, kept, limit/2, "as much as fits")
	require.LessOrEqual(t, c.used, int64(limit))
	_, ok := c.get(asked(999))
	require.True(t, ok)

	long := asked(0)
	long.Last = strings.Repeat("x", limit)
	c.put(long, nil)
	_, ok = c.get(long)
	require.False(t, ok, "nothing that takes most of the room is kept")
	used := int64(0)
	for key, item := range c.items {
		used += c.cost(key, item.body)
	}
	require.Equal(t, used, c.used)
}
