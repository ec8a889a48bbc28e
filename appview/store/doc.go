// Package store keeps what the server must not lose over a restart, in SQL.
//
//   - store.go: [DB], how it reads and writes, and what a failure of the database is
//   - sqlite.go, lock.go: a SQLite file for one server, or a database in memory; one writer and a pool of readers
//   - postgres.go: a PostgreSQL that replicas share; credentials.go: where it is and who asks
//   - copy.go: a copy of a SQLite file that is in use, and whether one is sound; backup: files of such copies
//   - check.go: whether a store would open, of which nothing is made yet
//   - migrate.go, migrations: the schema, numbered files for each engine; a newer one than this release knows is refused
//   - sessions.go: sealed PDS sessions; refresh.go: refresh tokens; identities.go: who was who; backlog.go: what waits, for metrics;
//     lease.go: who may talk to a PDS about one of them
//   - seal: the sealing key and the keys derived from it
//   - storetest: every engine, for tests
//
// Queries are written once, with $1 parameters, for both engines. Other packages (index) add their own migration files
// here and run their queries through [DB.Read], [DB.ReadOne], [DB.Write], [DB.WriteAlone] and [DB.WriteSoon].
package store
