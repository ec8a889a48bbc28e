// Package render turns the spec of an AppView and what was found out about its surroundings into the objects to apply.
// It is pure: no client, no clock. Server-side apply does the rest, so an object here names only the fields that the
// operator has an opinion on.
//
//   - settings.go: the spec with its defaults
//   - metadata.go: names, labels, owner references
//   - secrets.go, claim.go, service.go, runtime.go, deployment.go, autoscaler.go: one object each
//   - pods.go: what spec.podTemplate adds to the pods
//   - availability.go: what keeps several pods from going at once
//   - monitoring.go: the ServiceMonitor
//   - networkpolicy.go: with whom the pods may talk
//   - backup.go: where the server keeps backups of its SQLite file
//   - postgresql.go: what the pods are given of a PostgreSQL's Secrets
package render
