// Package bench measures the registry side by side with distribution's, on one machine and in one run:
//
//	go test -run '^$' -bench . -benchtime 5x ./test/bench
//
// Every peer is a process of its own, so its CPU time is its own; the client (go-containerregistry) shares the
// cores, so read ratios, not digits. Reported besides MB/s: CPU milliseconds per MiB of each server process. Any
// unexpected status fails the run. Nothing here asserts a time.
package bench
