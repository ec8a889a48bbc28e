package store_test

import (
	"database/sql"
	"io/fs"
	"os"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

// filled is a database as the release with the second migration left it.
func filled(t *testing.T, e storetest.Engine) {
	t.Helper()
	driver, name, folder, dialect := "sqlite", t.TempDir()+"/old.db", "migrations/sqlite", goose.DialectSQLite3
	if e.URL != "" {
		driver, name, folder, dialect = "pgx", e.URL, "migrations/postgres", goose.DialectPostgres
	}
	db, err := sql.Open(driver, name)
	require.NoError(t, err)
	dir, err := fs.Sub(os.DirFS("."), folder)
	require.NoError(t, err)
	p, err := goose.NewProvider(dialect, db, dir)
	require.NoError(t, err)
	_, err = p.UpTo(t.Context(), 2)
	require.NoError(t, err)
	for _, statement := range []string{
		`INSERT INTO pds_sessions VALUES ('c', 'did:plc:a', 'https://pds', 'sealed', 100, 200, 1, 10)`,
		`INSERT INTO mirrors VALUES ('did:plc:a', 'rev', 'commit', 5)`,
		`INSERT INTO manifests VALUES ('did:plc:a', 'sha256:m', 'm', 'cid', 'app', 'a/b', '', 3, 'did:web:h', 'blob', '', '{}')`,
		`INSERT INTO manifest_bytes VALUES ('sha256:m', '{ }')`,
		`INSERT INTO tags VALUES ('did:plc:a', 'k', 'cid', 'app', 'v1', 'sha256:m', 7)`,
		`INSERT INTO uploads VALUES ('u', 'did:plc:a', 'app', 'did:web:h', 4, '{}', 1, 8)`,
		`INSERT INTO outbox VALUES ('1', 'did:plc:a', 'did:web:h', '{}', 2, 1234567)`,
	} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	require.NoError(t, db.Close())
	if e.URL == "" {
		require.NoError(t, os.MkdirAll(e.Path[:len(e.Path)-len("/ui.db")], 0o700))
		require.NoError(t, os.Rename(name, e.Path))
	}
}

func TestADatabaseOfAnOlderReleaseKeepsWhatItHolds(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		filled(t, e)
		db := e.Open(t)
		one := func(query string, into ...any) {
			t.Helper()
			require.NoError(t, db.ReadOne(t.Context(), func(q store.Querier) error {
				return q.QueryRowContext(t.Context(), query).Scan(into...)
			}), query)
		}
		session, err := db.SessionByCredential(t.Context(), "c")
		require.NoError(t, err)
		require.Equal(t, []byte("sealed"), session.Sealed)

		var rev, body, tag string
		var generation, read, size, used, created, due, attempts, offset int64
		one(`SELECT rev, generation, read_at FROM mirrors`, &rev, &generation, &read)
		require.Equal(t, "rev", rev)
		require.Greater(t, read, int64(1_700_000_000), "as if it was read now: a sweep does not take it at once")
		require.Zero(t, generation)
		one(`SELECT body, size, used_at FROM manifest_bytes WHERE digest = 'sha256:m'`, &body, &size, &used)
		require.Equal(t, "{ }", body)
		require.EqualValues(t, 3, size, "counted, so that the bound holds for it")
		require.Greater(t, used, int64(1_700_000_000_000_000), "as if it was used now: a sweep does not take it at once")
		one(`SELECT t.tag FROM tags t JOIN manifests m ON m.did = t.did AND m.digest = t.digest`, &tag)
		require.Equal(t, "v1", tag)
		one(`SELECT byte_offset FROM uploads WHERE id = 'u'`, &offset)
		require.EqualValues(t, 4, offset)
		var record string
		one(`SELECT created_at, due_at, attempts, record FROM outbox WHERE id = '1'`, &created, &due, &attempts, &record)
		require.EqualValues(t, 1234567, created, "the order of what waits is that in which it was due")
		require.EqualValues(t, 1234567, due)
		require.EqualValues(t, 2, attempts)
		require.Empty(t, record, "what it tells of has happened")

		b, err := db.Backlog(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, b.Notifications)
		require.Equal(t, 1, b.Uploads)
	})
}
