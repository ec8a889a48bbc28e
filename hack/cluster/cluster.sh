#!/usr/bin/env bash
# cluster.sh: the cluster that the demo and the end-to-end tests use.
#
#   cluster.sh up                      start it, or say that it is up
#   cluster.sh exec COMMAND...         run a command where the cluster is reachable, with kubectl and KUBECONFIG
#   cluster.sh load ARCHIVE...         give OCI archives to its nodes
#   cluster.sh hosts REGISTRY URL      nodes pull REGISTRY (host[:port]) from URL, without a restart
#   cluster.sh hosts REGISTRY FOLDER   the same by the files of a folder: hosts.toml, and ca.crt if it names one
#   cluster.sh status                  which provider, and the nodes
#   cluster.sh logs [NAMESPACE]...     pods, events and container logs, for when something failed
#   cluster.sh down                    remove it and everything it made
#
# The provider is chosen by `up`, and `up` says which: an existing cluster when DEMO_CONTEXT names a context, else
# kind when it is installed with a working docker or podman, else a one-node Kubernetes built from Go modules in
# namespaces of its own (Linux, root). CLUSTER_PROVIDER=existing|kind|local overrides. The ambient kubeconfig is never
# used. State lives in .run/cluster of the checkout, or in ATCR_CLUSTER_DIR.
#
# Each provider is a file here that defines provider_up, _down, _status, _exec, _load and _hosts.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../lib.sh"

DIR=${ATCR_CLUSTER_DIR:-$REPO/.run/cluster}
export ATCR_CLUSTER_DIR=$DIR

usage() { fail "usage: hack/cluster/cluster.sh up | down | status | exec COMMAND... | load ARCHIVE... | hosts REGISTRY URL|FOLDER | logs [NAMESPACE]..."; }

# choose_provider: print the provider and, on stderr, why.
choose_provider() {
  if [[ -n ${CLUSTER_PROVIDER:-} ]]; then
    say "cluster: $CLUSTER_PROVIDER, because CLUSTER_PROVIDER says so"
    echo "$CLUSTER_PROVIDER"
  elif [[ -n ${DEMO_CONTEXT:-} ]]; then
    say "cluster: the existing one that DEMO_CONTEXT names ($DEMO_CONTEXT)"
    echo existing
  elif has kind && engine_works; then
    say "cluster: kind, because it is installed and a container engine works"
    echo kind
  else
    say "cluster: a local node from Go modules, because there is no kind with a working docker or podman"
    echo local
  fi
}

# engine_works: whether kind could start containers.
engine_works() {
  local engine
  for engine in docker podman; do
    if has "$engine" && timeout 10 "$engine" info >/dev/null 2>&1; then return; fi
  done
  return 1
}

load_provider() {
  case $1 in
    existing | kind | local) ;;
    *) fail "no provider is called $1; there are existing, kind and local" ;;
  esac
  # shellcheck source=/dev/null
  source "$HERE/$1.sh"
}

# current_provider: the one that `up` chose.
current_provider() {
  [[ -s $DIR/provider ]] || fail "there is no cluster; start one with hack/cluster/cluster.sh up"
  cat "$DIR/provider"
}

up() {
  local provider
  if [[ -s $DIR/provider ]]; then
    provider=$(cat "$DIR/provider")
  else
    provider=$(choose_provider)
  fi
  load_provider "$provider"
  provider_prepare
  mkdir -p "$DIR"
  chmod 700 "$DIR"
  echo "$provider" >"$DIR/provider"
  provider_up
}

down() {
  if [[ ! -s $DIR/provider ]]; then
    say "there is no cluster"
    rm -rf "$DIR"
    return
  fi
  load_provider "$(cat "$DIR/provider")"
  provider_down
  rm -rf "$DIR"
  rmdir "$REPO/.run" 2>/dev/null || true
  say "the cluster is gone"
}

# logs NAMESPACE...: what a person would look at first when a pod does not become ready.
logs() {
  local namespaces=("$@") namespace pod
  if ((${#namespaces[@]} == 0)); then
    mapfile -t namespaces < <(provider_exec kubectl get namespaces -o name | cut -d/ -f2 | grep -vE '^kube-(public|node-lease)$')
  fi
  for namespace in "${namespaces[@]}"; do
    echo "=== namespace $namespace"
    provider_exec kubectl -n "$namespace" get pods,services,persistentvolumeclaims -o wide || true
    provider_exec kubectl -n "$namespace" get events --sort-by=.lastTimestamp | tail -n 25 || true
    for pod in $(provider_exec kubectl -n "$namespace" get pods -o name); do
      echo "--- logs of $namespace/$pod"
      provider_exec kubectl -n "$namespace" logs "$pod" --all-containers --prefix --tail=25 || true
      provider_exec kubectl -n "$namespace" logs "$pod" --all-containers --prefix --tail=10 --previous 2>/dev/null || true
    done
  done
}

command=${1:-}
(($#)) && shift
case $command in
  up) up ;;
  down) down ;;
  status | exec | load | hosts | logs)
    provider=$(current_provider)
    load_provider "$provider"
    case $command in
      logs) logs "$@" ;;
      hosts) (($# == 2)) || usage; "provider_$command" "$@" ;;
      exec | load) (($#)) || usage; "provider_$command" "$@" ;;
      *) "provider_$command" "$@" ;;
    esac
    ;;
  *) usage ;;
esac
