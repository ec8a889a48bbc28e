// Package keyset says which key signs registry tokens and which keys verify them, and reads and writes the files that
// the server mounts. It is pure: the clock and the source of randomness are arguments, and nothing here knows a
// cluster.
//
//   - key.go: one key, its id, its certificate
//   - set.go: the current key, the next one, the retired ones, and the files they make; record.go: what files do not say
//   - decide.go: what to do next, one write at a time
//   - server.go: which servers are behind
//   - source.go: keys that somebody else provides
//   - oauth.go: the OAuth client's keys, which retire the other way around
package keyset
