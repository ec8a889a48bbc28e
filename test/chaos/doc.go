// Package chaos kills what a registry is made of, by kill -9 and in random order, while clients push, delete and pull:
// two AppViews over one PostgreSQL, the hold, the PDS and the database itself, all real processes. Afterwards every
// acknowledged push pulls byte for byte, every acknowledged delete is gone, what was never acknowledged is there whole
// or not at all, and everything that is stored is accounted for.
//
//	make chaos                                      # 500 pushes over each kind of hold
//	CHAOS_SEED=1 CHAOS_PUSHES=40 go test -v ./test/chaos
//
// The seed decides what is killed, when (counted in requests) and what is pushed. How requests interleave is up to the
// machine.
//
//   - chaos_test.go: the test, from start to the accounts
//   - schedule_test.go: what is killed when; outage_test.go: one part away after the other, and 503 with Retry-After
//   - model_test.go: what may be read; push_test.go, pull_test.go: clients that judge what they see; client_test.go: how
//     they retry; image_test.go: what they push
//   - accounting_test.go: outbox, records, layer records, quotas, storage and rows against the manifests of the PDS
//   - world_test.go, process_test.go: the processes
package chaos
