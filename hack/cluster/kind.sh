# Provider: kind. Sourced by cluster.sh.
# shellcheck shell=bash disable=SC2154

KIND_CLUSTER=atcr
KIND_KUBECONFIG=$DIR/kubeconfig

provider_prepare() { has kind || fail "kind is not installed"; }

# kubectl_path: the folder of the user's kubectl, or of the one from Go modules.
kubectl_path() {
  if has kubectl; then
    dirname "$(command -v kubectl)"
  else
    "$REPO/hack/node/build.sh"
  fi
}

provider_up() {
  if kind get clusters 2>/dev/null | grep -qx "$KIND_CLUSTER"; then
    say "kind cluster $KIND_CLUSTER is already up"
    kind export kubeconfig --name "$KIND_CLUSTER" --kubeconfig "$KIND_KUBECONFIG" >/dev/null 2>&1
    return
  fi
  kind create cluster --name "$KIND_CLUSTER" --kubeconfig "$KIND_KUBECONFIG" --wait 180s --config - >&2 <<'CONFIG'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
CONFIG
  say "kind cluster $KIND_CLUSTER is up"
}

provider_down() { kind delete cluster --name "$KIND_CLUSTER" --kubeconfig "$KIND_KUBECONFIG" >&2; }

provider_status() {
  echo "provider: kind (cluster $KIND_CLUSTER, kubeconfig $KIND_KUBECONFIG)"
  provider_exec kubectl get nodes -o wide
}

provider_exec() {
  env KUBECONFIG="$KIND_KUBECONFIG" PATH="$(kubectl_path):$PATH" ATCR_CLUSTER_PROVIDER=kind "$@"
}

provider_load() {
  local archive
  for archive in "$@"; do
    kind load image-archive --name "$KIND_CLUSTER" "$archive" >&2
    say "loaded $(basename "$archive")"
  done
}

provider_hosts() {
  local node file engine=docker
  has docker && docker info >/dev/null 2>&1 || engine=podman
  for node in $(kind get nodes --name "$KIND_CLUSTER"); do
    if [[ -d $2 ]]; then
      "$engine" exec "$node" mkdir -p "/etc/containerd/certs.d/$1"
      for file in "$2"/*; do "$engine" exec -i "$node" tee "/etc/containerd/certs.d/$1/${file##*/}" <"$file" >/dev/null; done
      continue
    fi
    "$engine" exec -i "$node" sh -c 'mkdir -p "/etc/containerd/certs.d/$1" && cat >"/etc/containerd/certs.d/$1/hosts.toml"' sh "$1" \
      < <("$HERE/hosts-toml.sh" "$2")
  done
  say "nodes pull $1 from $2"
}
