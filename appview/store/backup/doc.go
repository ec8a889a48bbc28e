// Package backup copies the SQLite database of a running server into files of their own, and puts one back.
//
//   - backup.go: [Dir], one directory of backups: making, listing, how long they are kept
//   - schedule.go: [Schedule], a backup in every interval, and how it went
//   - restore.go: [Restore], for a server that is stopped
//
// A backup is made by VACUUM INTO from a snapshot, so that writes go on meanwhile; it is checked, made durable and only
// then given its name. A directory never holds half a backup under such a name.
package backup
