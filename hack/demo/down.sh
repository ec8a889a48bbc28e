#!/usr/bin/env bash
# down.sh: remove the demo. A cluster that we made goes whole; on one that DEMO_CONTEXT named, the demo's namespaces,
# the operator and its CRDs go, and the cluster stays.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

DIR=${ATCR_CLUSTER_DIR:-$REPO/.run/cluster}
cluster() { "$REPO/hack/cluster/cluster.sh" "$@"; }

if [[ -s $DIR/provider && $(cat "$DIR/provider") == existing ]]; then
  say "removing the demo from the existing cluster"
  cluster exec kubectl delete --ignore-not-found -f "$REPO/hack/demo/namespace.yaml" >&2
  [[ ! -e $DIR/operator/kustomization.yaml ]] || cluster exec kubectl delete --ignore-not-found -k "$DIR/operator" >&2
fi
cluster down
