// Package session keeps app-password sessions at users' PDSes, so that a kubelet that logs in for every pull costs
// its user's PDS one createSession and not thousands: the reference PDS allows 30 in 5 minutes and 300 a day.
//
//   - manager.go: [Manager.Check] verifies an app password; [Manager.Do] sends a request as a user
//   - confirm.go: [Manager.Confirm]: is the app password of a session still good, for refresh tokens
//   - recent.go: sessions that were looked up moments ago
//   - wire.go: createSession and refreshSession
//   - limit.go: wrong passwords are remembered and limited, so that they do not use up the user's budget either
//
// A session is stored under an HMAC of DID and password, its tokens sealed. The password itself is stored nowhere.
// Replicas share sessions through the store; a lease makes sure that only one of them talks to the PDS about one.
package session
