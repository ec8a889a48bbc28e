// Package holdlink reconciles HoldLinks: does the AppView admit it, which DID and endpoint does the hold have, is it
// well, and was the server told.
//
// Start at reconcile.go. consent.go looks for grants and certificates, resolve.go finds DID and endpoint through the guarded client of appview/atproto/diddoc;
// status is written once, at the end, by status.go. The AppView controller is the only one that decides which hold is
// default; this one repeats its decision.
package holdlink
