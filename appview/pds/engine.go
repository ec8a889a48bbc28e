package pds

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/pressly/goose/v3"

	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/sqlitedb"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// maxCachedRepos bounds the MSTs kept in memory; a tree of 10,000 records is about 5 MB.
	maxCachedRepos = 64
	// maxExports bounds the disk space of exports whose readers are slow: each takes as much as its repository.
	maxExports            = 8
	defaultTempBlobTTL    = time.Hour
	defaultEventRetention = 72 * time.Hour
	sweepInterval         = 15 * time.Minute
)

// Engine hosts repositories on one folder. Safe for concurrent use; one process per folder.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	writer *sql.DB // one connection: SQLite has one writer anyway, and so nobody waits in busy loops
	reader *sql.DB

	// mu orders commits: revisions, sequence numbers and blob files change only under it.
	mu    sync.Mutex
	repos *lru.Cache[syntax.DID, *repoState]
	seq   int64 // the latest event's
	tids  *syntax.TIDClock

	ids sync.Map // DID -> row id; repositories are never removed

	exports chan struct{} // one element for each WriteRepoCAR under way

	news   *bell
	closed chan struct{}
	stop   context.CancelFunc // of the sweep
	once   sync.Once
	wg     sync.WaitGroup
}

// Open opens or creates the engine's folder, migrates the schema and starts the sweep of unreferenced blobs and old events.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	if cfg.Dir == "" {
		return nil, errors.New("pds: no data folder given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.TempBlobTTL == 0 {
		cfg.TempBlobTTL = defaultTempBlobTTL
	}
	if cfg.EventRetention == 0 {
		cfg.EventRetention = defaultEventRetention
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, tempFolder), 0o700); err != nil {
		return nil, fmt.Errorf("create the data folder: %w", err)
	}
	e := &Engine{cfg: cfg, log: cfg.Logger, news: newBell(), exports: make(chan struct{}, maxExports), closed: make(chan struct{})}
	sweeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = stop
	var err error
	if e.repos, err = lru.New[syntax.DID, *repoState](maxCachedRepos); err != nil {
		return nil, fmt.Errorf("make the tree cache: %w", err)
	}
	var clock [2]byte
	_, _ = rand.Read(clock[:]) // never fails
	e.tids = syntax.NewTIDClock(uint(binary.BigEndian.Uint16(clock[:]) & 0x3ff))

	if err := e.openDatabase(ctx); err != nil {
		return nil, errors.Join(err, e.closeDatabase())
	}
	if err := e.emptyTempFolder(); err != nil {
		return nil, errors.Join(err, e.closeDatabase())
	}
	e.wg.Go(func() { background.Keep(sweeping, e.log, "sweep of the repositories", func() {}, e.sweepLoop) })
	return e, nil
}

// databaseFile is in the engine's folder.
const databaseFile = "pds.sqlite"

func (e *Engine) openDatabase(ctx context.Context) error {
	path := filepath.Join(e.cfg.Dir, databaseFile)
	// The file holds signing keys: made with its final mode before SQLite would make it with the umask's.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create the database file: %w", err)
	}
	f.Close()

	source := func(pragmas ...string) string {
		return sqlitedb.Source(path, url.Values{"_pragma": append([]string{"busy_timeout(10000)"}, pragmas...)})
	}
	// FULL: in WAL mode NORMAL would lose the last commits in a power cut.
	e.writer, err = sqlitedb.Open(source("journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)"))
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	e.writer.SetMaxOpenConns(1)
	e.reader, err = sqlitedb.Open(source("query_only(ON)"))
	if err != nil {
		return fmt.Errorf("open the database for reading: %w", err)
	}
	e.reader.SetMaxOpenConns(max(4, runtime.NumCPU()))
	e.reader.SetMaxIdleConns(4)

	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	steps, err := goose.NewProvider(goose.DialectSQLite3, e.writer, files)
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := steps.Up(ctx); err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return e.loadSeq(ctx)
}

// Hosted are the DIDs of the repositories in a folder, which an Engine may have open; none in a new one. It makes
// and changes nothing.
func Hosted(ctx context.Context, folder string) (dids []syntax.DID, err error) {
	path := filepath.Join(folder, databaseFile)
	if written, err := sqlitedb.Written(path); err != nil || !written {
		return nil, err
	}
	db, err := sqlitedb.OpenUnchanged(path)
	if err != nil {
		return nil, fmt.Errorf("open the database for reading: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var begun bool
	if err := db.QueryRowContext(ctx, `SELECT count(*) > 0 FROM sqlite_master WHERE name = 'repo'`).Scan(&begun); err != nil || !begun {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `SELECT did FROM repo ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list the repositories: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var did syntax.DID
		if err := rows.Scan(&did); err != nil {
			return nil, fmt.Errorf("list the repositories: %w", err)
		}
		dids = append(dids, did)
	}
	return dids, rows.Err()
}

// loadSeq reads the latest sequence number given, also when its event was pruned.
func (e *Engine) loadSeq(ctx context.Context) error {
	var seq sql.NullInt64
	err := e.writer.QueryRowContext(ctx, `SELECT max(seq) FROM sqlite_sequence WHERE name = 'event'`).Scan(&seq)
	if err != nil {
		return fmt.Errorf("read the latest sequence number: %w", err)
	}
	e.seq = seq.Int64
	return nil
}

// Close stops the sweep and the subscriptions and closes the database.
func (e *Engine) Close() error {
	var err error
	e.once.Do(func() {
		close(e.closed)
		e.stop()
		e.wg.Wait()
		e.mu.Lock() // wait for the commit under way
		defer e.mu.Unlock()
		err = e.closeDatabase()
	})
	return err
}

func (e *Engine) closeDatabase() error {
	var errs []error
	for _, db := range []*sql.DB{e.reader, e.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Ping reports whether the database can be written; for health endpoints.
func (e *Engine) Ping(ctx context.Context) error {
	if err := e.writer.PingContext(ctx); err != nil {
		return fmt.Errorf("reach the database: %w", err)
	}
	var one int
	if err := e.reader.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	return nil
}

// bell wakes everybody who waits for something new.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

func newBell() *bell { return &bell{ch: make(chan struct{})} }

// wait returns a channel that the next ring closes. Take it before looking for news.
func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.ch)
	b.ch = make(chan struct{})
}
