// Package referencepds runs the reference PDS (@atproto/pds) and PLC directory from npm for tests, with accounts on it,
// and the reference verifier of repositories (@atproto/repo). What they are and how they are installed is in hack/peers.
//
// The way in: [Start].
package referencepds
