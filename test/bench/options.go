package bench

import (
	"io"
	"time"
)

// Options say how much is measured.
type Options struct {
	Repetitions int           // of each measurement
	Window      time.Duration // of one repetition of a request
	Connections int           // of the closed loop
	Transfers   []Transfer
	S3          bool  // also a hold on an S3 server, and distribution on the same
	Growth      []int // numbers of repositories, ascending
	Tags        int   // of one repository
	Referrers   int   // of one manifest
	Idle        int   // keep-alive connections
	Starts      int   // cold starts
	Soak        time.Duration
	Ours        bool            // without rivals, to compare ours with BENCH_BASE
	Only        map[string]bool // sections; empty: all
	Dir         string          // where servers keep their data; a new folder of the system's temporary one when empty
	Out         io.Writer       // tables, as they are measured
}

// Full takes about five minutes.
func Full() Options {
	return Options{Repetitions: 5, Window: 600 * time.Millisecond, Connections: 16, S3: true,
		Transfers: []Transfer{{1, 20}, {10, 5}, {100, 2}},
		Growth:    []int{1, 1_000, 100_000}, Tags: 100_000, Referrers: 1_000, Idle: 10_000, Starts: 5}
}

// Quick takes about a minute.
func Quick() Options {
	return Options{Repetitions: 3, Window: 250 * time.Millisecond, Connections: 16, S3: true,
		Transfers: []Transfer{{1, 10}, {10, 2}, {100, 1}},
		Growth:    []int{1, 1_000}, Tags: 1_000, Referrers: 100, Idle: 1_000, Starts: 3}
}

// Smoke takes seconds: everything once, to see that it works.
func Smoke() Options {
	return Options{Repetitions: 1, Window: 20 * time.Millisecond, Connections: 2, S3: true, Transfers: []Transfer{{1, 1}},
		Growth: []int{1, 10}, Tags: 250, Referrers: 3, Idle: 5, Starts: 1, Soak: 500 * time.Millisecond}
}
