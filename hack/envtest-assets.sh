#!/usr/bin/env bash
# envtest-assets.sh: print a folder with etcd, kube-apiserver and kubectl, for KUBEBUILDER_ASSETS.
# One that the caller already has in KUBEBUILDER_ASSETS wins; else they are built from Go modules, once.
set -euo pipefail
if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
  echo "$KUBEBUILDER_ASSETS"
  exit
fi
exec "$(dirname "${BASH_SOURCE[0]}")/node/build.sh" kubenode
