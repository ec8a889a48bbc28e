#!/usr/bin/env bash
# The end-to-end tests with twenty rotations of the signing key instead of three, and a load that goes on after the last
# for SOAK_SECONDS (600). Prints what the clients saw.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export E2E_ROTATIONS=${E2E_ROTATIONS:-20} E2E_SOAK_SECONDS=${SOAK_SECONDS:-600}
export E2E_FLAGS="-v -run TestRegistry ${E2E_FLAGS:-}" E2E_TIMEOUT=${E2E_TIMEOUT:-$((20 + E2E_ROTATIONS + E2E_SOAK_SECONDS / 60))m}
exec hack/test/e2e.sh
