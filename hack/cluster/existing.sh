# Provider: the cluster that DEMO_CONTEXT names. Sourced by cluster.sh. Nothing outside the demo's namespaces is removed.
# shellcheck shell=bash disable=SC2154

EXISTING_KUBECONFIG=$DIR/kubeconfig

provider_prepare() {
  has kubectl || fail "kubectl is not installed"
  [[ -s $EXISTING_KUBECONFIG || -n ${DEMO_CONTEXT:-} ]] || fail "DEMO_CONTEXT names no context; see: kubectl config get-contexts"
}

# A copy with this one context, so that a later change of the current context moves nothing.
provider_up() {
  if [[ -n ${DEMO_CONTEXT:-} ]]; then
    (umask 077 && kubectl config view --context "$DEMO_CONTEXT" --minify --flatten >"$EXISTING_KUBECONFIG")
  fi
  provider_exec kubectl get nodes >&2
}

provider_down() { say "the existing cluster stays; only our copy of its kubeconfig goes"; }

provider_status() {
  echo "provider: existing (kubeconfig $EXISTING_KUBECONFIG)"
  provider_exec kubectl get nodes -o wide
}

provider_exec() { env KUBECONFIG="$EXISTING_KUBECONFIG" ATCR_CLUSTER_PROVIDER=existing "$@"; }

# We do not touch the nodes of somebody's cluster.
provider_load() {
  say "give these archives to your nodes yourself, then continue:"
  local archive
  for archive in "$@"; do say "  ctr -n k8s.io images import $archive     (on each node)"; done
}

provider_hosts() {
  say "on each node, write /etc/containerd/certs.d/$1/hosts.toml (config_path must be /etc/containerd/certs.d):"
  "$HERE/hosts-toml.sh" "$2" >&2
}
