package store

import (
	"context"
	"database/sql"
	"sync"
)

// prepared runs queries of SQLite that are compiled once for each connection: compiling costs more than most of them.
// (pgx does the same for PostgreSQL by itself.) Query texts are constants of this program, so there are few.
type prepared struct {
	db    *sql.DB
	mu    sync.RWMutex
	known map[string]*sql.Stmt
}

func newPrepared(db *sql.DB) *prepared { return &prepared{db: db, known: map[string]*sql.Stmt{}} }

// statement is nil when the query cannot be compiled: running it tells why.
func (p *prepared) statement(ctx context.Context, query string) *sql.Stmt {
	p.mu.RLock()
	found := p.known[query]
	p.mu.RUnlock()
	if found != nil {
		return found
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if found = p.known[query]; found != nil {
		return found
	}
	made, err := p.db.PrepareContext(ctx, query)
	if err != nil {
		return nil
	}
	p.known[query] = made
	return made
}

// QueryContext implements [Querier].
func (p *prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := p.statement(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return p.db.QueryContext(ctx, query, args...)
}

// QueryRowContext implements [Querier].
func (p *prepared) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := p.statement(ctx, query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return p.db.QueryRowContext(ctx, query, args...)
}

func (p *prepared) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.known {
		_ = s.Close() // of a database that is closed next
	}
	clear(p.known)
}
