// Package store keeps what the server must not lose over a restart, in SQL.
//
//   - store.go: [DB], one writer and a pool of readers, opened on a SQLite file or in memory
//   - migrate.go, migrations/sqlite: the schema, one numbered file per change; a newer one than this release knows is refused
//   - sessions.go: sealed PDS sessions; refresh.go: refresh tokens; lease.go: who may talk to a PDS about one of them
//   - seal: the sealing key and the keys derived from it
//
// Queries are written once, with $1 parameters, for SQLite now and PostgreSQL later. Other packages (index) add
// their own migration file here and run their queries through [DB.Read] and [DB.Write].
package store
