#!/usr/bin/env bash
# Runs a command where the cluster of ATCR_CLUSTER_DIR is reachable, with TEST_KUBECONFIG set: for `go test -exec`.
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/../cluster/cluster.sh" exec \
  bash -c 'TEST_KUBECONFIG=$KUBECONFIG exec "$@"' in-cluster "$@"
