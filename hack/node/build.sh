#!/usr/bin/env bash
# build.sh [kubenode|coredns]...: build the parts of the local node from Go modules, once; print the folder that holds
# etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl and coredns.
#
# Without arguments both are built. A cold build of kubenode takes about 13 CPU minutes and 5 GiB of disk; afterwards
# the binary is found in the user's cache folder, under a hash of go.mod, go.sum, sources and the Go version.
# Progress goes to stderr; stdout is the one line with the folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

export CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false
NODE=$REPO/hack/node
COMPONENTS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)

# build NAME MODULE PACKAGE LDFLAGS-COMMAND: build into the cache unless it is there; prints the binary's path.
build() {
  local name=$1 module=$2 package=$3 sources binary
  mapfile -t sources < <(find "$module/${package#./}" -maxdepth 1 -name '*.go' | sort)
  binary=$CACHE/node/$name/$(content_key "$module/go.mod" "$module/go.sum" "${sources[@]}")/$name
  if [[ ! -x $binary ]]; then
    one_at_a_time build-tools
  fi
  if [[ ! -x $binary ]]; then
    say "building $name from Go modules (once; minutes when nothing is cached; kept in $CACHE/node)"
    mkdir -p "$(dirname "$binary")"
    go -C "$module" build -trimpath -ldflags "$($4 "$module")" -o "$binary.tmp.$$" "$package" >&2 &
    report_until_done $! "$name"
    mv "$binary.tmp.$$" "$binary"
    forget_old "$CACHE/node/$name" 2
    say "built $name"
  fi
  echo "$binary"
}

# report_until_done PID WHAT: wait for the process, saying every 30 seconds that it still runs; its exit status.
report_until_done() {
  local told=$SECONDS
  while kill -0 "$1" 2>/dev/null; do
    sleep 0.5
    if ((SECONDS - told >= 30)); then
      say "  still building $2"
      told=$SECONDS
    fi
  done
  wait "$1"
}

# The API server refuses to start without a version of its own.
kubenode_ldflags() {
  local version base=k8s.io/component-base/version
  version=$(go -C "$1" list -m -f '{{.Version}}' k8s.io/kubernetes)
  local minor=${version#v*.}
  echo "-s -w -X $base.gitVersion=$version -X $base.gitMajor=1 -X $base.gitMinor=${minor%%.*}" \
    "-X $base.gitTreeState=clean -X $base.gitCommit=go-module" \
    "-X k8s.io/client-go/pkg/version.gitVersion=$version"
}
plain_ldflags() { echo "-s -w"; }

parts=("$@")
((${#parts[@]})) || parts=(kubenode coredns)
links=()
for part in "${parts[@]}"; do
  case $part in
    kubenode)
      binary=$(build kubenode "$NODE" ./cmd/kubenode kubenode_ldflags)
      for component in "${COMPONENTS[@]}"; do links+=("$component=$binary"); done
      ;;
    coredns)
      binary=$(build coredns "$NODE/coredns" . plain_ldflags)
      links+=("coredns=$binary")
      ;;
    *) fail "usage: hack/node/build.sh [kubenode|coredns]..." ;;
  esac
done

# One folder of links per combination of binaries, so that a running node keeps what it was started from.
bin=$CACHE/node/bin/$(printf '%s\n' "${links[@]}" | sha256sum | cut -c1-16)
mkdir -p "$bin"
for link in "${links[@]}"; do
  [[ -e $bin/${link%%=*} ]] || ln -sfn "${link#*=}" "$bin/${link%%=*}"
done
echo "$bin"
