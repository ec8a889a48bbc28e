// Package conformance holds the registry against the OCI distribution-spec over the full path: token authentication
// with an app password, records on the development PDS, blobs in the hold.
//
//   - conformance_test.go: the official program, for the version that is out and for the next, with exactly the skips
//     that are named there and no failure, but for one header of dev that an S3 server does not send
//   - report_test.go: what the program reports, by group and by feature
//   - beyond_test.go: what the specification says and the program does not look at
package conformance
