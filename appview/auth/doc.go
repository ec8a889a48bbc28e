// Package auth issues and verifies registry tokens (Distribution token specification).
//
//   - handler.go: /auth/token, GET and POST; login.go: who is asking; refresh.go: tokens that stand for a login
//   - scope.go, grant.go: what was asked for, and how much of it one gets (pure)
//   - keyset.go: one key that signs and every key that verifies (pure); keyfiles.go: from files, made when missing, hot-reloaded
//   - issuer.go, verifier.go: tokens out, tokens in
//   - challenge.go: the 401 that tells a client where to get a token
//
// Everybody may pull: what atproto stores is public, and a private hold guards its blobs itself. Only the owner of
// an identity may push to and delete under it. How long a login that was revoked still counts: appview/security.md.
package auth
