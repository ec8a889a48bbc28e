// Package spec parses what clients of the OCI Distribution API send: paths, names, references, digests, ranges and
// manifests. It is pure: no I/O, no clock, no configuration; every parser is fuzzed.
//
// Start with [ParsePath], then [ParseManifest].
package spec
