// Package index knows the io.atcr.* records of every DID that the server meets: it mirrors them into the store, answers
// from there what a PDS has no queries for (tag lists, referrers, which repository may serve a digest), and writes
// them, since a write is what changes the mirror.
//
//   - mirror.go: [Mirror], and how it stays current
//   - takeup.go: how much of what a PDS lists is taken up, and in which transactions; unread.go: what is dropped again
//   - generation.go: whether what is remembered is still so, also when another replica writes
//   - read.go: tags, manifests, repositories; referrers.go: who names a manifest as subject, and pages.go: lists of
//     them as they were answered
//   - bytes.go: manifest bytes: memory (bytecache.go), store, PDS, and never without checking the digest
//   - write.go, delete.go: one atomic applyWrites per change, in a queue per DID
//   - rows.go: the SQL
//   - handles.go: whose images a handle has named, for the day when it moves to another account
//   - outbox.go: notifications to holds, kept until they are acknowledged, in a queue per hold
//   - counts.go: what the metrics tell
//   - children.go: the entries of an index; sweep.go: how many manifest bytes the store keeps
//
// The records are the truth. When a PDS is down, what was mirrored is served.
package index
