// Package records reads and writes the io.atcr.* records of a user's repository. It is pure: no clock, no network.
//
// Writers write the newest shape plus the deprecated fields that old readers need. Readers accept every shape that
// was ever published. A record that is read and written again keeps the fields that this release does not know.
//
//   - manifest.go: io.atcr.manifest, one per digest; fromoci.go makes one of the bytes of an OCI manifest
//   - tag.go: io.atcr.tag, one per (repository, tag), and their record keys
//   - profile.go: io.atcr.sailor.profile
//   - extra.go: unknown fields, dates
package records
