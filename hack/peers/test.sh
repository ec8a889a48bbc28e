#!/usr/bin/env bash
# The tests against the reference PDS and PLC directory from npm, which are installed first. Whoever asks for these
# tests wants no skips: a part that is missing is a failure, as in CI.
#
#   PEERS_FLAGS='-v -run Contract' hack/peers/test.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
cd "$REPO"

hack/peers/install.sh >/dev/null
# shellcheck disable=SC2086 # several flags are several words
CI=true go test -race -count=1 -timeout 15m ${PEERS_FLAGS:-} ./test/peers/...
