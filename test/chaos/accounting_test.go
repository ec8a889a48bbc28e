package chaos

import (
	"context"
	"database/sql"
	"encoding/json"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver of the hold's ledger

	atrecords "atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci/upload"
	"atcr.io/operator/appview/pds"
	"atcr.io/operator/appview/store"
)

// later is when everything that expires has: uploads, reservations, the grace of the garbage collection.
const later = 11 * 24 * time.Hour

// books is what must be there at the end, by the records on the PDS.
type books struct {
	w     *world
	repos []*repository

	manifests map[syntax.DID]map[digest.Digest]*image
	untold    map[digest.Digest]bool // whose last change was not acknowledged: if it was a push, the hold may not have heard of it
}

// drain waits until the outbox is empty. Leases of killed replicas have ended and what waits for its next attempt is
// due now, as if that time had passed.
func (b *books) drain(t *testing.T, db *sql.DB) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), `UPDATE leases SET expires_at = 0`)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := db.ExecContext(t.Context(), `UPDATE outbox SET due_at = 0 WHERE due_at > $1`, time.Now().Add(time.Second).UnixMicro())
		require.NoError(t, err)
		return b.rows(t, db, "outbox") == 0
	}, 2*time.Minute, 200*time.Millisecond, "the outbox is not drained")
}

func (b *books) rows(t *testing.T, db *sql.DB, table string) (n int) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
	return n
}

// settle reads every tag and manifest through both replicas: they agree, and show nothing that may not be.
func (b *books) settle(t *testing.T, seed uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	b.untold = map[digest.Digest]bool{}
	for _, repo := range b.repos {
		for _, i := range repo.all() {
			if _, r := repo.image(i.digest); !r.told {
				b.untold[i.digest] = true
			}
		}
		for n := range b.w.appViews {
			p := &puller{newClient(b.w, seed, ""), b.repos}
			p.only = n
			var tags []string
			for tag, r := range repo.tags {
				got := b.read(t, ctx, p, repo, tag, r)
				if got != absent {
					tags = append(tags, tag)
				}
			}
			slices.Sort(tags)
			a, err := p.do(ctx, http.MethodGet, repo.name, "/v2/"+repo.name+"/tags/list", nil, nil)
			require.NoError(t, err)
			if len(tags) > 0 || a.status != http.StatusNotFound {
				var list struct{ Tags []string }
				require.NoError(t, json.Unmarshal(a.body, &list), "%s", a.body)
				require.Equal(t, tags, append([]string(nil), list.Tags...), "%s of %s", repo.name, b.w.appViews[n])
			}
			for _, i := range repo.all() {
				_, r := repo.image(i.digest)
				b.read(t, ctx, p, repo, string(i.digest), r)
				for _, l := range i.blobs() { // also of pushes that came to nothing: absent, or right
					body, found, err := p.blob(ctx, repo.name, string(l.digest))
					require.NoError(t, err)
					require.True(t, !found || digest.FromBytes(body) == l.digest, "%s", l.digest)
				}
			}
		}
	}
}

// read settles one reference: from now on it is what was read.
func (b *books) read(t *testing.T, ctx context.Context, p *puller, repo *repository, ref string, r *register) digest.Digest {
	t.Helper()
	got, err := p.pull(ctx, repo, ref, r)
	require.NoError(t, err)
	r.found(got)
	return got
}

// compare reads the records of the PDS: they are what the replicas show.
func (b *books) compare(t *testing.T) {
	t.Helper()
	b.manifests = map[syntax.DID]map[digest.Digest]*image{}
	shown := map[string]digest.Digest{}
	images := map[syntax.DID]map[digest.Digest]*image{}
	for _, repo := range b.repos {
		did := b.w.dids[repo.handle]
		if images[did] == nil {
			images[did], b.manifests[did] = map[digest.Digest]*image{}, map[digest.Digest]*image{}
		}
		for tag, r := range repo.tags {
			if !r.must(absent) {
				shown[string(did)+"/"+strings.TrimPrefix(repo.name, repo.handle+"/")+":"+tag] = r.values()[0]
			}
		}
		for _, i := range repo.all() {
			images[did][i.digest] = i
		}
	}
	tags := map[string]digest.Digest{}
	for did := range images {
		list, err := records(t.Context(), b.w.pdsURL, did, string(index.CollectionTag))
		require.NoError(t, err)
		for _, rec := range list {
			tag, err := atrecords.ParseTag(did, rec.Value)
			require.NoError(t, err)
			tags[string(did)+"/"+tag.Repository+":"+tag.Tag] = tag.Digest
		}
		list, err = records(t.Context(), b.w.pdsURL, did, string(index.CollectionManifest))
		require.NoError(t, err)
		for _, rec := range list {
			_, d, err := atrecords.DigestOfURI(rec.URI)
			require.NoError(t, err)
			require.Contains(t, images[did], d, "a manifest that nobody pushed")
			b.manifests[did][d] = images[did][d]
		}
	}
	require.Equal(t, shown, tags, "the tags that the replicas show are those of the PDS")
	for _, repo := range b.repos {
		did := b.w.dids[repo.handle]
		for _, i := range repo.all() {
			_, r := repo.image(i.digest)
			_, there := b.manifests[did][i.digest]
			require.Equal(t, r.must(i.digest), there, "%s@%s on the PDS", repo.name, i.digest)
		}
	}
}

// layerRecords are the hold's, by manifest.
func (b *books) layerRecords(t *testing.T, at string) map[syntax.ATURI]map[digest.Digest]int64 {
	t.Helper()
	list, err := records(t.Context(), at, b.w.holdDID(), "io.atcr.hold.layer")
	require.NoError(t, err)
	out := map[syntax.ATURI]map[digest.Digest]int64{}
	for _, rec := range list {
		var l struct {
			Digest   digest.Digest
			Size     int64
			Manifest syntax.ATURI
		}
		require.NoError(t, json.Unmarshal(rec.Value, &l))
		if out[l.Manifest] == nil {
			out[l.Manifest] = map[digest.Digest]int64{}
		}
		require.NotContains(t, out[l.Manifest], l.Digest, "two records for one layer of %s", l.Manifest)
		out[l.Manifest][l.Digest] = l.Size
	}
	return out
}

// expected are the layer records that the manifests of the PDS mean, and the bytes that each DID uses.
func (b *books) expected() (layers map[syntax.ATURI]map[digest.Digest]int64, used map[syntax.DID]int64) {
	layers, used = map[syntax.ATURI]map[digest.Digest]int64{}, map[syntax.DID]int64{}
	for did, manifests := range b.manifests {
		counted := map[digest.Digest]bool{}
		for d, i := range manifests {
			for _, l := range i.layers {
				uri := syntax.ATURI(atrecords.ManifestURI(did, d))
				if layers[uri] == nil {
					layers[uri] = map[digest.Digest]int64{}
				}
				layers[uri][l.digest] = int64(l.size)
				if !counted[l.digest] {
					counted[l.digest] = true
					used[did] += int64(l.size)
				}
			}
		}
	}
	return layers, used
}

// holdBooks compares the hold's records with the manifests. Pushes that it may not have heard of are left out, and
// counted; of deletions it always hears.
func (b *books) holdBooks(t *testing.T, at string, untold map[digest.Digest]bool) (differ int) {
	t.Helper()
	got := b.layerRecords(t, at)
	want, used := b.expected()
	for uri := range merged(got, want) {
		_, d, err := atrecords.DigestOfURI(string(uri))
		require.NoError(t, err)
		if untold[d] && want[uri] != nil {
			if !maps.Equal(got[uri], want[uri]) {
				differ++
			}
			continue
		}
		require.Equal(t, want[uri], got[uri], "layer records of %s", uri)
	}
	for did, bytes := range used {
		var q struct{ TotalSize int64 }
		require.NoError(t, getJSON(t.Context(), at+"/xrpc/io.atcr.hold.getQuota?userDid="+string(did), &q))
		if differ == 0 {
			require.Equal(t, bytes, q.TotalSize, "what %s uses", did)
		}
	}
	return differ
}

func merged[K comparable, V any](a, b map[K]V) map[K]bool {
	out := map[K]bool{}
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

// stored are the keys of the hold's storage: blobs, and what is left of uploads.
type stored func(t *testing.T) []string

func filesUnder(root string) stored {
	return func(t *testing.T) (keys []string) {
		require.NoError(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				var key string
				key, err = filepath.Rel(root, path)
				keys = append(keys, filepath.ToSlash(key))
			}
			return err
		}))
		return keys
	}
}

// counts how many of the keys are blobs that manifests name, other blobs, and parts of uploads.
func (b *books) inStorage(t *testing.T, keys []string) (named, orphans, parts int) {
	t.Helper()
	needed := map[string]bool{}
	for _, manifests := range b.manifests {
		for _, i := range manifests {
			for _, l := range i.blobs() {
				needed[storage.BlobKey(l.digest)] = true
			}
		}
	}
	seen := map[string]bool{}
	for _, key := range keys {
		switch {
		case needed[key]:
			seen[key] = true
		case strings.HasPrefix(key, "blobs/"):
			orphans++
		default:
			parts++
		}
	}
	require.Len(t, seen, len(needed), "every blob that a manifest names is stored")
	return len(seen), orphans, parts
}

// collect opens the stopped hold as it would run when everything has expired, and once more as long after that, when it
// forgets what it knew of what is gone. In the end it has exactly what the manifests name.
func (b *books) collect(t *testing.T, keys stored) (found hold.Garbage) {
	t.Helper()
	found = b.collectIn(t, later, func(string) {})
	b.collectIn(t, 2*later, func(at string) { require.Zero(t, b.holdBooks(t, at, nil)) })
	_, orphans, parts := b.inStorage(t, keys(t))
	require.Zero(t, orphans, "blobs that no manifest names")
	require.Zero(t, parts, "parts of uploads")
	return found
}

func (b *books) collectIn(t *testing.T, ahead time.Duration, then func(url string)) hold.Garbage {
	t.Helper()
	cfg, err := hold.LoadFrom(b.w.holdEnv)
	require.NoError(t, err)
	s, err := hold.New(t.Context(), cfg, hold.Deps{Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Now().Add(ahead) }})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close(context.Background())) }()
	found, err := s.CollectGarbage(t.Context(), false)
	require.NoError(t, err)
	require.Zero(t, found.Unreadable)
	require.NoError(t, s.Sweep(t.Context()))
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()
	then(srv.URL)
	return found
}

// count is how many manifests there are.
func (b *books) count() (n int) {
	for _, all := range b.manifests {
		n += len(all)
	}
	return n
}

// ledgerDB reads the hold's ledger beside the hold.
func (b *books) ledgerDB(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.w.holdEnv[names.HoldDatabaseDir], "ledger.sqlite")+"?mode=ro&_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// ledger compares the rows of the hold's ledger with the manifests, once all that expires has.
func (b *books) ledger(t *testing.T) {
	t.Helper()
	db := b.ledgerDB(t)
	links, layers := 0, 0
	for _, all := range b.manifests {
		blobs := map[digest.Digest]bool{}
		for _, i := range all {
			for _, l := range i.blobs() {
				blobs[l.digest] = true
			}
			layers += len(i.layers)
		}
		links += len(blobs)
	}
	require.Equal(t, links, b.rows(t, db, "links"), "rows of the hold's links")
	require.Equal(t, layers, b.rows(t, db, "layers"), "rows of the hold's layers")
	require.Zero(t, b.rows(t, db, "uploads"), "rows of the hold's uploads")
	require.Equal(t, b.count(), b.rows(t, db, "manifests"), "rows of the hold's manifests")
}

// sweepStore lets the AppView's own sweeps run as they would later. In the end there are bytes of the manifests that
// are there, and no upload.
func (b *books) sweepStore(t *testing.T, db *sql.DB) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{URL: b.w.dbURL, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer s.Close()
	now := func() time.Time { return time.Now().Add(later) }
	sessions := &upload.Sessions{Store: s, Now: now}
	_, err = sessions.Forget(t.Context(), now().Add(-24*time.Hour))
	require.NoError(t, err)
	require.Zero(t, b.rows(t, db, "uploads"))
	mirror := index.New(index.Config{Store: s, Log: slog.New(slog.DiscardHandler), StoreBytes: 1 << 30, CacheBytes: 1 << 20, Now: now})
	require.NoError(t, mirror.Sweep(t.Context()))
	want := 0
	for _, manifests := range b.manifests {
		want += len(manifests)
	}
	require.Equal(t, want, b.rows(t, db, "manifests"))
	require.LessOrEqual(t, b.rows(t, db, "manifest_bytes"), want)
	require.LessOrEqual(t, b.rows(t, db, "pds_sessions"), len(accounts))
	require.Zero(t, b.rows(t, db, "refresh_tokens"))
}

// pdsBlobs counts the blob files of the stopped PDS, before and after its own sweep: what is left are the manifests.
func (b *books) pdsBlobs(t *testing.T) (before int) {
	t.Helper()
	count := func() (n int) {
		require.NoError(t, filepath.WalkDir(filepath.Join(b.w.pdsDir, "blobs"), func(_ string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				n++
			}
			return err
		}))
		return n
	}
	before = count()
	e, err := pds.Open(t.Context(), pds.Config{Dir: b.w.pdsDir, TempBlobTTL: time.Nanosecond})
	require.NoError(t, err)
	require.NoError(t, e.Sweep(t.Context()))
	require.NoError(t, e.Close())
	want := 0
	for _, manifests := range b.manifests {
		want += len(manifests)
	}
	require.Equal(t, want, count(), "blobs of the PDS are those of the manifests")
	return before
}
