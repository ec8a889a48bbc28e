// Package alias writes identities as the first component of a repository name and reads them back. A DID contains
// colons, which the OCI grammar forbids, and may contain percent signs.
//
// # How to name a repository
//
// A repository is <identity>/<name>, and the name may have several components: alice.example.com/team/app. The identity
// is one of
//
//	handle                      alice.example.com
//	did:plc:abc...              did_plc_abc...            canonical: what we write
//	                            did-plc-abc...            upstream's spelling, read only
//	did:web:hold.example.com    did_web_hold.example.com  canonical
//	did:web:localhost%3A8080    did_web_localhost__3a8080 a port: two underscores, 3a, the port without leading zeros
//	did:web:localhost           did-web-localhost         upstream's spelling, read only, and only without a dot
//
// All spellings of an identity are the same repository. Use the DID where a name must outlive a change of handle, for
// example in a pod's image. Only did:plc and did:web without a path have an alias.
//
// No alias is a handle: handles contain a dot and no underscore, and the hyphenated form is read only without a dot.
package alias
