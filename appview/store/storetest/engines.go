// Package storetest runs tests over every engine that the store has: SQLite in a file, SQLite in memory, and a real
// PostgreSQL.
//
//   - engines.go: [Each] and [Engine]
//   - postgres.go: a PostgreSQL cluster for the tests of one package, which ends with their process
package storetest

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
)

// Engine is an empty database of one engine.
type Engine struct {
	Name string
	store.Options
}

// The engines.
const (
	File       = "sqlite"
	Memory     = "memory"
	PostgreSQL = "postgresql"
)

// Each runs a test once for each engine that a server runs on: SQLite in a file, and PostgreSQL.
func Each(t *testing.T, test func(t *testing.T, e Engine)) {
	t.Helper()
	for _, name := range []string{File, PostgreSQL} {
		t.Run(name, func(t *testing.T) { test(t, New(t, name)) })
	}
}

// All is Each, and SQLite in memory.
func All(t *testing.T, test func(t *testing.T, e Engine)) {
	t.Helper()
	t.Run(Memory, func(t *testing.T) { test(t, New(t, Memory)) })
	Each(t, test)
}

// New makes an empty database.
func New(t testing.TB, engine string) Engine {
	t.Helper()
	e := Engine{Name: engine}
	switch engine {
	case File:
		e.Path = filepath.Join(t.TempDir(), "sub dir", "ui.db")
	case PostgreSQL:
		e.URL = Postgres(t).Database(t)
	}
	return e
}

// Open opens the database and closes it with the test.
func (e Engine) Open(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), e.Options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// Env is what makes an AppView use the database.
func (e Engine) Env() map[string]string {
	env := map[string]string{}
	if e.URL != "" {
		env[names.DatabaseURL] = e.URL
	}
	if e.Path != "" {
		env[names.UIDatabasePath] = e.Path
	}
	return env
}
