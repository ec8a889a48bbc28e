package store

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
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
	cfg, err := o.postgres()
	if err != nil {
		return err
	}
	if o.Dir != "" {
		cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			fresh, err := o.postgres()
			if err != nil {
				return fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			*c = *fresh.ConnConfig
			return nil
		}
	}
	if o.MaxIdle > 0 {
		cfg.AfterRelease = func(*pgx.Conn) bool { return int(d.pool.Stat().IdleConns()) < o.MaxIdle }
	}
	if d.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return quiet(err, cfg.ConnConfig.Password)
	}
	d.writer = stdlib.OpenDBFromPool(d.pool)
	d.reader = d.writer
	if err := d.awaitStart(ctx); err != nil {
		if err = quiet(err, cfg.ConnConfig.Password); refused(err) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return fmt.Errorf("opening the database: %w", err)
	}
	return nil
}

func (d *DB) awaitStart(ctx context.Context) error {
	deadline := time.Now().Add(startLimit)
	for told := false; ; told = true {
		err := d.Ping(ctx)
		if err == nil || ctx.Err() != nil || !postgresUnavailable(err) || refused(err) || untrusted(err) || time.Now().After(deadline) {
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

// refused says whether the server answered that user, password or database are none of its own.
func refused(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code[:2] == "28" || e.Code == "3D000")
}

// untrusted says whether the server's certificate is not the one that is expected, which does not pass by waiting.
func untrusted(err error) bool {
	var e *tls.CertificateVerificationError
	return errors.As(err, &e)
}

// postgresUnavailable says whether the server could not be asked, or said that it cannot answer now.
func postgresUnavailable(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		// Connection exceptions, insufficient resources, operator intervention, system errors, and a standby that was
		// reached where the primary is meant. A password that is refused may be one that has just been changed.
		switch e.Code[:2] {
		case "08", "28", "53", "57", "58":
			return true
		}
		return e.Code == "25006"
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) || pgconn.Timeout(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, pgx.ErrTxClosed)
}
