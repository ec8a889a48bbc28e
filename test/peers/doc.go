// Package peers holds our servers against independent implementations of the AT Protocol: the reference PDS and PLC
// directory (@atproto/pds from npm), the reference verifier of repositories (@atproto/repo), and indigo.
//
// Run it with `make test-peers`, which installs the packages once. contract_test.go: devnet, our PDS for development,
// does as the reference does. registry_test.go: push and pull through AppView and hold with accounts on the reference
// PDS; changes_test.go: deletes, referrers, quotas and a PDS that goes away in the middle. repo_test.go and firehose_test.go: what our own repositories look like to others.
package peers
