#!/usr/bin/env bash
# build.sh: build the local node's binaries from Go modules, once, and print the folder that holds them:
# etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl (links to one binary).
#
# A cold build takes about 13 CPU minutes and 5 GiB of disk. Afterwards the binary is found in the user's cache
# folder, under a hash of go.mod, go.sum, sources and the Go version.
# Progress goes to stderr; stdout is the one line with the folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

COMPONENTS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
module=$REPO/hack/node
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false

# The API server refuses to start without a version of its own, so the linker writes the module's.
version_ldflags() {
  local version minor base=k8s.io/component-base/version
  version=$(go -C "$module" list -m -f '{{.Version}}' k8s.io/kubernetes)
  minor=${version#v*.}
  echo "-s -w -X $base.gitVersion=$version -X $base.gitMajor=1 -X $base.gitMinor=${minor%%.*}" \
    "-X $base.gitTreeState=clean -X $base.gitCommit=go-module" \
    "-X k8s.io/client-go/pkg/version.gitVersion=$version"
}

# report_until_done PID: wait for the build, saying every 30 seconds that it still runs; its exit status.
report_until_done() {
  local told=$SECONDS
  while kill -0 "$1" 2>/dev/null; do
    sleep 0.5
    if ((SECONDS - told >= 30)); then
      say "  still building"
      told=$SECONDS
    fi
  done
  wait "$1"
}

bin=$CACHE/node/$(content_key "$module/go.mod" "$module/go.sum" "$module"/cmd/kubenode/*.go)
if [[ ! -x $bin/kubenode ]]; then
  one_at_a_time build-tools
fi
if [[ ! -x $bin/kubenode ]]; then
  say "building Kubernetes from Go modules (once; minutes when nothing is cached; kept in $CACHE/node)"
  mkdir -p "$bin"
  for component in "${COMPONENTS[@]}"; do ln -sfn kubenode "$bin/$component"; done
  go -C "$module" build -trimpath -ldflags "$(version_ldflags)" -o "$bin/kubenode.tmp.$$" ./cmd/kubenode >&2 &
  report_until_done $!
  mv "$bin/kubenode.tmp.$$" "$bin/kubenode"
  forget_old "$CACHE/node" 2
  say "built Kubernetes"
fi
echo "$bin"
