// Package diddoc reads DID documents and fetches them, and every other URL that a stranger chose, through one
// HTTP client that cannot be pointed at the inside of a network.
//
//   - webdid.go: did:web identifiers, with ports and without paths, in one canonical spelling
//   - document.go: the document, and where a hold or a PDS says it lives
//   - policy.go, address.go: which addresses, ports and schemes a client may reach, decided at dial time
//   - client.go, fetch.go: the client and the fetch of a did:web document
//   - errors.go: error classes that are safe to show; no error carries a byte of a response
//
// Both planes import this package: the server and the operator resolve the same holds by the same rules. It
// imports nothing but the standard library.
package diddoc
