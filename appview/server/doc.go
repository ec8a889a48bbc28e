// Package server makes a running AppView of its configuration.
//
//   - server.go: [New] puts the parts together; the whole dependency graph is there
//   - check.go: [Check]: whether a server would open
//   - serve.go: [Server.Serve]: listeners, drain on a signal
//   - adapters.go: the small glue between packages that do not know each other
//   - debug.go: what /readyz says; observe.go: the log line of a request; metrics.go: what is counted, listed in metrics.md
//   - self.go: the AppView's own DID, and what it signs
//   - servertest: a whole world (devnet, hold, server) in one process, for tests
package server
