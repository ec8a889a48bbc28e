// Package records reads and writes the io.atcr.* records of a user's repository. It is pure: no clock, no network.
//
// Writers write the newest shape plus the deprecated fields that old readers need. Readers accept every shape that was
// ever published. A record that is read and written again keeps what this release does not know, at every depth.
//
//   - manifest.go: io.atcr.manifest, one per digest; fromoci.go makes one of the bytes of an OCI manifest
//   - tag.go: io.atcr.tag, one per (repository, tag), and their record keys
//   - profile.go: io.atcr.sailor.profile
//   - hold.go: io.atcr.hold, the legacy record of a user's own hold
//   - extra.go: what is written again as it was read; dates; DIDs of holds
//
// The lexicons are in package lexicons; testdata has records of every published shape, and of shapes that were never
// valid but are met.
package records
