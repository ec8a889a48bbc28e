// Package atproto is the server's side of the AT Protocol: who somebody is, and what is in their repository.
//
//   - directory.go, handle.go: [Directory], handle or DID to [Identity], verified both ways, cached, guarded
//   - memory.go: [Memory], identities that outlive a restart
//   - pds.go: [PDS], reads that need no login
//   - pds_write.go: writes and service tokens, through [Sessions], which hides how the user logged in
//   - errors.go: what a PDS may answer, as typed errors
//   - alias: identities in repository names; records: the io.atcr.* records; session: app-password sessions;
//     diddoc: DID documents and the guarded HTTP client
package atproto
