package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

// files writes the parts of a URL into a directory, as the kubelet mounts a Secret.
func files(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	password, _ := u.User.Password()
	dir := t.TempDir()
	for name, value := range map[string]string{
		names.FileDatabaseHost: u.Hostname(), names.FileDatabasePort: u.Port() + "\n", names.FileDatabaseName: u.Path[1:],
		names.FileDatabaseUser: u.User.Username(), names.FileDatabasePassword: password,
	} {
		put(t, dir, name, value)
	}
	return dir
}

func put(t *testing.T, dir, name, value string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600))
}

func exec(t *testing.T, db *store.DB, statement string) {
	t.Helper()
	require.NoError(t, db.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.ExecContext(t.Context(), statement)
		return err
	}))
}

func TestAChangedPasswordIsUsedByTheNextConnection(t *testing.T) {
	cluster := storetest.StartPostgres(t)
	place := cluster.Database(t)
	admin, err := store.Open(t.Context(), store.Options{URL: place})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close()) })
	exec(t, admin, `CREATE ROLE app LOGIN PASSWORD 'one'`)
	exec(t, admin, `GRANT ALL ON ALL TABLES IN SCHEMA public TO app`)
	exec(t, admin, `GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app`)

	u, err := url.Parse(place)
	require.NoError(t, err)
	u.User = url.UserPassword("app", "one")
	dir := files(t, u.String())
	db, err := store.Open(t.Context(), store.Options{Dir: dir, SSLMode: "disable", MaxOpen: 3, MaxIdle: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	exec(t, admin, `ALTER ROLE app PASSWORD 'two'`)
	require.NoError(t, db.Ping(t.Context()), "a connection that is open goes on")
	cut := func() {
		t.Helper()
		require.NoError(t, admin.Read(t.Context(), func(q store.Querier) error {
			return q.QueryRowContext(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'`).Scan(new(int))
		}))
		require.Eventually(t, func() bool { // until the pool has noticed
			n := 0
			require.NoError(t, admin.Read(t.Context(), func(q store.Querier) error {
				return q.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'`).Scan(&n)
			}))
			return n == 0
		}, time.Minute, 10*time.Millisecond)
	}
	cut()
	require.ErrorIs(t, db.Ping(t.Context()), store.ErrUnavailable, "until the files say the new password, which is no fault of the statement")
	put(t, dir, names.FileDatabasePassword, "two\n")
	require.Eventually(t, func() bool { return db.Ping(t.Context()) == nil }, time.Minute, 10*time.Millisecond)
	require.NoError(t, db.SaveSession(t.Context(), row("c", 1)))
}

func TestTheServerOfTheDatabaseIsVerifiedWithTheCAThatIsNamed(t *testing.T) {
	cluster := storetest.StartPostgres(t)
	ca, other := cluster.ServeTLS(t), selfSigned(t)
	dir, caDir := files(t, cluster.Database(t)), t.TempDir()
	put(t, caDir, "ca.crt", string(ca))
	put(t, caDir, "other.crt", string(other))
	o := store.Options{Dir: dir, SSLMode: "verify-full", CAFile: filepath.Join(caDir, "ca.crt")}
	db, err := store.Open(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, db.Read(t.Context(), func(q store.Querier) error {
		var tls bool
		require.NoError(t, q.QueryRowContext(t.Context(), `SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&tls))
		require.True(t, tls)
		return nil
	}))
	require.NoError(t, db.Close())

	o.CAFile = filepath.Join(caDir, "missing.crt")
	require.ErrorContains(t, store.CheckOpen(t.Context(), o), names.DatabaseCAFile)
	o.CAFile = filepath.Join(caDir, "other.crt")
	_, err = store.Open(t.Context(), o)
	require.ErrorContains(t, err, "certificate")
}

func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestFilesThatMakeNoConnectionAreNamed(t *testing.T) {
	dir := t.TempDir()
	err := store.CheckOpen(t.Context(), store.Options{Dir: dir})
	require.ErrorContains(t, err, names.DatabaseDir)
	require.ErrorContains(t, err, "neither uri nor host")
	put(t, dir, names.FileDatabaseURI, "postgres://u:s3cret@h:port,i/d")
	err = store.CheckOpen(t.Context(), store.Options{Dir: dir})
	require.ErrorContains(t, err, "cannot be read")
	require.NotContains(t, err.Error(), "s3cret")
}
