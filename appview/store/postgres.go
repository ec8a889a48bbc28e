package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	connectLimit = 5 * time.Second  // for one connection
	startLimit   = 20 * time.Second // for a database that starts together with the server
	startPoll    = 250 * time.Millisecond
)

// openPostgres connects, and waits a while for a database that is still starting.
func (d *DB) openPostgres(ctx context.Context, o Options) error {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		// The parser's error quotes what it could not read, and part of that may be a password.
		return errors.New("ATCR_DATABASE_URL cannot be read; write postgres://user:password@host:5432/database?sslmode=verify-full, with special characters of the password percent-encoded")
	}
	if !strings.Contains(o.URL, "pool_max_conns=") {
		cfg.MaxConns = int32(max(10, 4*runtime.GOMAXPROCS(0)))
	}
	if cfg.ConnConfig.ConnectTimeout == 0 || cfg.ConnConfig.ConnectTimeout > connectLimit {
		cfg.ConnConfig.ConnectTimeout = connectLimit
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "atcr-appview"
	}
	if d.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return quiet(err, cfg.ConnConfig.Password)
	}
	d.writer = stdlib.OpenDBFromPool(d.pool)
	d.reader = d.writer
	if err := d.awaitStart(ctx); err != nil {
		return fmt.Errorf("opening the database: %w", quiet(err, cfg.ConnConfig.Password))
	}
	return nil
}

func (d *DB) awaitStart(ctx context.Context) error {
	deadline := time.Now().Add(startLimit)
	for told := false; ; told = true {
		err := d.Ping(ctx)
		if err == nil || ctx.Err() != nil || !postgresUnavailable(err) || time.Now().After(deadline) {
			return err
		}
		if !told {
			d.log.InfoContext(ctx, "waiting for the database to start")
		}
		t := time.NewTimer(startPoll)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// quiet withholds an error that holds the password.
func quiet(err error, password string) error {
	if err != nil && password != "" && strings.Contains(err.Error(), password) {
		return fmt.Errorf("%w (the error holds the password and is not shown)", ErrUnavailable)
	}
	return err
}

// isContention: PostgreSQL rolled the transaction back for the sake of another one; nothing of it happened.
func isContention(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01") // serialization_failure, deadlock_detected
}

// postgresUnavailable says whether the server could not be asked, or said that it cannot answer now.
func postgresUnavailable(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		// Connection exceptions, insufficient resources, operator intervention, system errors, and a standby that was
		// reached where the primary is meant.
		switch e.Code[:2] {
		case "08", "53", "57", "58":
			return true
		}
		return e.Code == "25006"
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded)
}
