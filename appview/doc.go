// Package appview is the data plane: the registry server, the hold service, and what they share. It knows nothing
// of Kubernetes.
//
// A reader starts at:
//
//   - cmd/atcr-appview, cmd/atcr-hold: the two servers; cmd/atcr-dev: both and a development PDS in one process
//   - config/names: every environment variable, and the runtime file's schema
//   - oci: the route table of the Distribution API, then one file per noun
//   - hold: the XRPC endpoints of a hold, then its storage drivers
//   - atproto, auth, store, index, holdclient: identity and PDS, registry tokens, SQL, the record mirror, the way to a hold
//   - sqlitedb: SQLite for store, hold and pds, without what statements cost besides
//   - background, framing: loops and goroutines that outlive a bug; connections that two servers cannot read differently, and
//     answers that are heard while a client still sends
//   - pds, devnet: the repository engine that a hold embeds, and a PLC + PDS for development and tests only
//
// What is promised to users, by which test, and how long something that was taken away still works: security.md.
package appview
