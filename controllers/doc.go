// Package controllers is the control plane. It knows Kubernetes, and knows the server only as an image with
// environment, files and HTTP endpoints (appview/config/names).
//
// A reader starts at:
//
//   - cmd/atcr-operator: flags; manager: cache, limits, the two controllers
//   - appview, holdlink: one folder per kind; the step list is on one screen, then one file per aspect
//   - keyset, render: pure: which key signs and verifies; spec and resolved inputs to the objects to apply
//   - internal/optional: kinds that a cluster may not serve, watched while it does
//   - internal/accounts: puts pull secrets into service accounts of others, and takes them out again
//   - probe: asks holds for their health, on the leader only
//   - internal/links: which HoldLinks an AppView admits, and which hold is its default; internal/apply: server-side apply
//     that sends nothing when nothing changes; internal/conditions: the rules of kstatus
//   - internal/usersecret, internal/trust: Secrets that a spec names, and the certificates that a HoldLink trusts
//   - controltest: the operator on a real API server, for tests
package controllers
