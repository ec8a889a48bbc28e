# Tests against the reference PDS and PLC directory from npm. Part of the top Makefile.
.PHONY: test-peers

test-peers: ## Push and pull, records, firehose and repositories against the reference PDS from npm
	hack/peers/test.sh
