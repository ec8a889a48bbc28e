// Package conformance holds the registry against the OCI distribution-spec over the full path: token authentication
// with an app password, records on the development PDS, blobs in the hold.
//
//   - conformance_test.go: the official program, for the version that is out and for the next, with no failure and
//     exactly the skips that are named there
//   - report_test.go: what the program reports, by group
//   - beyond_test.go: what the specification says and the program does not look at
package conformance
