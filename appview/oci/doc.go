// Package oci is the OCI Distribution API (distribution-spec 1.1, and what 1.2 adds cheaply) over AT Protocol records
// and holds.
//
//   - routes.go: the route table: method, right and handler of every endpoint, on one screen
//   - registry.go: what a request goes through before its handler: path, name, token, owner
//   - base.go, manifests.go, tags.go, blobs.go, uploads.go, referrers.go: the handlers, one file per noun
//   - handles.go: what a handle that moved to another account still names
//   - errors.go, translate.go: every failure as {"errors":[{code, message, detail}]} with a sentence and a remedy
//   - spec: the pure parsers; upload: the blob upload engine
package oci
