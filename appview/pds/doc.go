// Package pds is a small AT Protocol repository engine: records in a Merkle Search Tree, signed commits, blobs and the
// firehose, durable on one machine's disk. The hold embeds it with one repository (its own), devnet with several.
//
// The way in:
//
//   - [Open] an [Engine] on a folder; [Engine.CreateRepo] once per DID.
//   - [Engine.ApplyWrites] is the only way to change records: all writes of a call are one signed commit in one SQLite
//     transaction with synchronous=FULL, so an acknowledged commit survives kill -9 and a power cut. Writes that change
//     nothing make no commit.
//   - [Engine.GetRecord], [Engine.ListRecords], [Engine.Records] read; [Engine.PutBlob] and [Engine.OpenBlob] are blobs,
//     readable only while a record references them.
//   - [Engine.WriteRepoCAR], [Engine.WriteRecordProofCAR] export; [Engine.Subscribe] is the firehose.
//   - [NewHandler] serves com.atproto.repo.*, com.atproto.sync.* and com.atproto.server.describeServer over an engine,
//     with the caller's own authentication. Mount it under a mux of your own to override single methods.
//
// Files: types.go (what callers see), write.go (one commit, step by step), tree.go (the MST cache and proofs), blob.go,
// events.go, car.go, then handler*.go (the XRPC route table and one file per group).
//
// MST, CAR and key handling are indigo's (atproto/repo, go-car); storage, proofs for deletes and events are here.
package pds
