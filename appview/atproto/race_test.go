//go:build race

package atproto_test

const raceEnabled = true
