package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/storetest"
)

func TestReplicasThatStartTogetherMigrateOneAfterTheOther(t *testing.T) {
	e := storetest.New(t, storetest.PostgreSQL)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			db, err := store.Open(t.Context(), e.Options)
			if err == nil {
				err = errors.Join(db.SaveSession(t.Context(), row("c", 1)), db.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOfTwoWritesInADeadlockBothHappen(t *testing.T) {
	db := storetest.New(t, storetest.PostgreSQL).Open(t)
	require.NoError(t, db.SaveSession(t.Context(), row("a", 1)))
	require.NoError(t, db.SaveSession(t.Context(), row("b", 1)))
	var both, wg sync.WaitGroup
	both.Add(2)
	var runs atomic.Int32
	for _, order := range [][]string{{"a", "b"}, {"b", "a"}} {
		wg.Go(func() {
			var met bool
			err := db.Write(t.Context(), func(tx store.Tx) error {
				runs.Add(1)
				for i, credential := range order {
					if _, err := tx.ExecContext(t.Context(), `UPDATE pds_sessions SET version = version + 1 WHERE credential = $1`, credential); err != nil {
						return err
					}
					if i == 0 && !met { // each has its first row now, and wants the other's
						met = true
						both.Done()
						both.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 3, runs.Load(), "PostgreSQL ended one of them, and it ran again")
	for _, credential := range []string{"a", "b"} {
		s, err := db.SessionByCredential(t.Context(), credential)
		require.NoError(t, err)
		require.EqualValues(t, 3, s.Version)
	}
}

func TestWritesOfOneNameHappenOneAfterTheOther(t *testing.T) {
	all(t, func(t *testing.T, db *store.DB) {
		require.NoError(t, db.SaveSession(t.Context(), row("c", 0)))
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				err := db.WriteAlone(t.Context(), "name", func(tx store.Tx) error { // read, then write what was read
					var n int64
					if err := tx.QueryRowContext(t.Context(), `SELECT version FROM pds_sessions WHERE credential = 'c'`).Scan(&n); err != nil {
						return err
					}
					_, err := tx.ExecContext(t.Context(), `UPDATE pds_sessions SET version = $1 WHERE credential = 'c'`, n+1)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		s, err := db.SessionByCredential(t.Context(), "c")
		require.NoError(t, err)
		require.EqualValues(t, 10, s.Version)
	})
}

func TestAReadSeesOneMoment(t *testing.T) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		db := e.Open(t)
		count := func(q store.Querier) (n int) {
			require.NoError(t, q.QueryRowContext(t.Context(), `SELECT count(*) FROM pds_sessions`).Scan(&n))
			return n
		}
		require.NoError(t, db.Read(t.Context(), func(q store.Querier) error {
			require.Zero(t, count(q))
			require.NoError(t, db.SaveSession(t.Context(), row("c", 1)))
			require.Zero(t, count(q))
			return nil
		}))
		require.NoError(t, db.ReadOne(t.Context(), func(q store.Querier) error {
			require.Equal(t, 1, count(q))
			return nil
		}))
	})
}

func TestADatabaseThatIsDownIsUnavailableUntilItIsBack(t *testing.T) {
	cluster := storetest.StartPostgres(t)
	db, err := store.Open(t.Context(), store.Options{URL: cluster.Database(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, db.SaveSession(t.Context(), row("c", 1)))

	started := make(chan struct{})
	broken := make(chan error, 1)
	go func() { // a transaction that is under way then
		broken <- db.Write(t.Context(), func(tx store.Tx) error {
			close(started)
			_, err := tx.ExecContext(t.Context(), `SELECT pg_sleep(60)`)
			return err
		})
	}()
	<-started
	cluster.Stop()
	require.ErrorIs(t, <-broken, store.ErrUnavailable)
	require.ErrorIs(t, db.Ping(t.Context()), store.ErrUnavailable)
	_, err = db.SessionByCredential(t.Context(), "c")
	require.ErrorIs(t, err, store.ErrUnavailable)
	require.ErrorIs(t, db.SaveSession(t.Context(), row("c", 2)), store.ErrUnavailable)
	_, err = db.Lease(t.Context(), "n", time.Minute)
	require.ErrorIs(t, err, store.ErrUnavailable)

	// A server that starts before its database waits for it.
	opened := make(chan error, 1)
	go func() {
		other, err := store.Open(context.WithoutCancel(t.Context()), store.Options{URL: cluster.URL("t1")})
		if err == nil {
			err = other.Close()
		}
		opened <- err
	}()
	require.NoError(t, cluster.Start())
	require.NoError(t, <-opened)
	s, err := db.SessionByCredential(t.Context(), "c")
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Version)
	require.NoError(t, db.SaveSession(t.Context(), row("c", 2)))
}

func TestNoErrorHoldsThePasswordOfTheURL(t *testing.T) {
	cluster := storetest.Postgres(t)
	good, err := url.Parse(cluster.URL("postgres"))
	require.NoError(t, err)
	const secret = "hunter2hunter2"
	with := func(change func(*url.URL)) string {
		u := *good
		u.User = url.UserPassword("atcr", secret)
		change(&u)
		return u.String()
	}
	for name, c := range map[string]struct{ url, says string }{
		"a wrong password":     {with(func(*url.URL) {}), "password authentication failed"},
		"no such database":     {strings.Replace(cluster.URL("nothing"), "sslmode", "application_name="+secret+"&sslmode", 1), "does not exist"},
		"a port that is none":  {with(func(u *url.URL) { u.Host = "127.0.0.1:x" }), "cannot be read"},
		"an unknown parameter": {with(func(u *url.URL) { u.RawQuery = "sslmode=" + secret }), "cannot be read"},
		"no URL":               {"postgres://atcr:" + secret + "@[::1/x%zz", "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := store.Open(t.Context(), store.Options{URL: c.url})
			require.ErrorContains(t, err, c.says)
			for _, text := range []string{fmt.Sprint(err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
				require.NotContains(t, text, secret)
				require.NotContains(t, text, cluster.Password())
				require.NotContains(t, text, url.QueryEscape(cluster.Password()))
			}
		})
	}
}
