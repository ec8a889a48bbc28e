package sqlitedb

import (
	"context"
	"database/sql/driver"
	"strings"
)

type connector struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	made, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{native: made.(native), kept: map[string]driver.Stmt{}}, nil
}

// native is what a connection of the driver can do.
type native interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// conn keeps compiled statements. It is used by one goroutine at a time; a statement whose rows are still read is not
// among the kept.
type conn struct {
	native
	kept map[string]driver.Stmt
}

// mostKept is how many statements a connection keeps. Texts are constants of this program, so there are fewer.
const mostKept = 200

// keeps says whether a statement is kept: one that reads or writes rows, and no PRAGMA, which may run when it is compiled.
func keeps(query string) bool {
	verb, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	switch verb {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "ROLLBACK":
		return true
	}
	return false
}

// take gives a statement to one user.
func (c *conn) take(ctx context.Context, query string) (driver.Stmt, error) {
	if s, ok := c.kept[query]; ok {
		delete(c.kept, query)
		return s, nil
	}
	return c.PrepareContext(ctx, query)
}

// give keeps a statement that nobody uses any more. One that failed is compiled again next time.
func (c *conn) give(query string, s driver.Stmt, err error) {
	if _, twin := c.kept[query]; err != nil || twin || len(c.kept) >= mostKept {
		_ = s.Close() // repeats the error of its last run
		return
	}
	c.kept[query] = s
}

// ExecContext implements [driver.ExecerContext].
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if !keeps(query) {
		return c.native.ExecContext(ctx, query, args)
	}
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	res, err := s.(driver.StmtExecContext).ExecContext(context.WithoutCancel(ctx), args)
	c.give(query, s, err)
	return res, err
}

// QueryContext implements [driver.QueryerContext].
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if !keeps(query) {
		return c.native.QueryContext(ctx, query, args)
	}
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	found, err := s.(driver.StmtQueryContext).QueryContext(context.WithoutCancel(ctx), args)
	if err != nil {
		c.give(query, s, err)
		return nil, err
	}
	return &rows{Rows: found, done: func(err error) { c.give(query, s, err) }}, nil
}

// rows give their statement back.
type rows struct {
	driver.Rows
	done func(error)
}

// Close implements [driver.Rows].
func (r *rows) Close() error {
	err := r.Rows.Close()
	r.done(err)
	return err
}

// BeginTx implements [driver.ConnBeginTx].
func (c *conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	kind := Writing
	if o.ReadOnly {
		kind = ReadOnly
	}
	if _, err := c.ExecContext(ctx, kind, nil); err != nil {
		return nil, err
	}
	return tx{c}, nil
}

type tx struct{ c *conn }

// Commit implements [driver.Tx].
func (t tx) Commit() error {
	_, err := t.c.ExecContext(context.Background(), "COMMIT", nil)
	if err != nil {
		_ = t.Rollback() // fails when SQLite has rolled back
	}
	return err
}

// Rollback implements [driver.Tx].
func (t tx) Rollback() error {
	_, err := t.c.ExecContext(context.Background(), "ROLLBACK", nil)
	return err
}

// Close implements [driver.Conn].
func (c *conn) Close() error {
	for _, s := range c.kept {
		_ = s.Close() // of a connection that closes next
	}
	clear(c.kept)
	return c.native.Close()
}
