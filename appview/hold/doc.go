// Package hold is the hold service (atcr-hold): blob storage with a small embedded PDS that says who may use it.
//
// The way in: [Config] (config.go), then [New] and the route table in server.go. One file per noun after that:
//
//   - identity.go: the hold's DID, its key and its DID document; plc.go: a did:plc, made and kept up to date
//   - token.go, access.go: who calls (service tokens), and what captain and crew may do
//   - crew.go: captain and crew records; bootstrap at start, requestCrew, updateCrewTier
//   - upload.go (in parts), whole.go (in one request): the way of a blob in; blob.go: out; sweep.go ends uploads without
//     progress, and removes stray parts and blobs that nobody has
//   - quota.go: tiers and reservations; space.go: what one user may have here, named by manifests or not; arriving.go: in
//     uploads in progress, and measure.go: where their parts go past the hold
//   - notify.go, delete.go: layer records of manifests pushed and deleted; stats.go: pushes counted, and pulls (pulls.go)
//   - gc.go, gc_read.go: garbage collection by what users' PDSes have; control.go: how a command asks for one
//   - userdata.go: export and deletion of what the hold has of a user
//   - crawl.go: relays asked to follow; backup.go: repository export and import; restore.go: a ledger made again from the
//     records; admin.go: the running hold's operator
//   - check.go: whether a hold would open, of which nothing is made yet
//   - health.go, metrics.go (listed in metrics.md), observe.go, serve.go: operations
//
// Folders: storage (drivers), ledger (SQLite: links, uploads), xrpc (answers), slow (deadlines that move with
// progress). The protocol is facts/atcr-protocol.md section 2 with the extensions that upload.go, whole.go, blob.go,
// quota.go and notify.go name. For operators: hold.md.
package hold
