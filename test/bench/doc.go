// Package bench measures the registry side by side with distribution's, on one machine and in one run:
//
//	make bench                        everything, about six minutes
//	make bench ARGS=-quick            about a minute
//	make bench ARGS='-only blobs'     one section: idle, requests, blobs, connections, start, growth, soak
//	make bench ARGS='-soak 1h'        only the mixed load for so long, with a PDS that fails now and then
//
// BENCH_ZOT and BENCH_OLAREG name binaries of these registries to run beside; BENCH_PEERS='name=command {addr} {dir};...'
// any other. BENCH_BASE names a folder with programs of ours from another commit ("git checkout X && make build"), to see
// what a change is worth.
//
// AppView, hold and PDS, distribution and the others are processes of their own on loopback, so the CPU time of each is
// its own, read from its CPU clock. AppView and hold run as they are configured by default, access log included, and
// log to files; distribution has its access log off. The client shares the cores: read CPU and ratios, not requests per
// second, and nothing at all on a busy machine. Repetitions take turns over the peers, A-B-B-A, and a table shows the
// median with the least and the greatest.
//
// The client is ours: it sends a Location back exactly as it came, and an answer with another status, length, digest or
// byte than was expected ends the run, since errors would be fast requests. Pulled blobs are compared byte for byte.
// "floor" is a bare net/http handler that answers from memory: what nobody is below.
//
//   - run.go: which servers are started, and the sections in their order; options.go: how much is measured
//   - process.go, atcr.go, others.go: the servers; client.go, load.go: the client
//   - footprint.go, requests.go, transfer.go, growth.go, soak.go: the sections
//   - stats.go, report.go: medians and tables
//
// What is dearer than we wanted, and why (2 cores, 2026-11-26; profiles by ATCR_DEBUG_ADDR and perf):
//
//   - push of 1 MiB: all bytes pass two sockets more than distribution's; a quarter of the hold's CPU is the hash, a third
//     the writing and the four syncs (bytes, two folders, the ledger's commit), which on a disk take half the time
//   - another repository each time, of 10^5: 180 us; a snapshot reads three pages that are in no memory, and a token is new
//   - referrers, a page of 500 of 1,000: 8 ms the first time, most of it reading rows and writing them as JSON; then it is
//     remembered until something of the owner's changes
//
// Builds guided by a profile were tried: no difference beyond the noise, for fifteen times the time of a build.
//
// The operator has a benchmark of its own, in the folder operator.
//
// `make test` runs all of it once, with few requests, and asserts that the tables are complete. Nothing here asserts a
// time.
package bench
