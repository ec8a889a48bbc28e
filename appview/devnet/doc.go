// Package devnet is a PLC directory and a multi-account PDS on one listener, for `make run`, demos and tests.
//
// It is NOT for production: anybody who reaches it can create accounts, and the directory believes itself. It refuses to
// listen beyond loopback unless it runs in a Kubernetes cluster or is told so. Only cmd/atcr-dev and tests import it.
//
// The way in: [Start] or [Command]; config.go (what callers see), devnet.go (the route table), then one file per noun:
// account.go, session.go, serviceauth.go, plc.go. Records, blobs and the firehose are package pds.
//
// What the reference PDS (@atproto/pds) does was observed; devnettest holds both to one contract suite.
package devnet
