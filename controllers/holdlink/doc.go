// Package holdlink reconciles HoldLinks: does the AppView admit it, which DID and endpoint does the hold have, is it
// well, and was the server told.
//
// Start at reconcile.go. consent.go looks for grants and certificates, resolve.go finds DID and endpoint through the guarded
// client of appview/atproto/diddoc. Status is written once, at the end, by status.go, and of a new hold not before its first
// answer, for which health.go waits a second. The AppView controller is the only one that decides which hold is default;
// this one repeats its decision.
package holdlink
