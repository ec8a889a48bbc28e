#!/usr/bin/env bash
# check.sh: does the cluster do what the demo and the tests rely on? Restricted pods with probes and a claim, DNS,
# ClusterIP and NodePort, exec, logs, port-forward, a rolling restart, owner garbage collection, and a pull through
# hosts.toml. Needs a cluster that is up; leaves nothing in it. For whoever changes hack/cluster or hack/node.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../lib.sh"

if [[ ${1:-} != inside ]]; then
  "$HERE/cluster.sh" status
  go -C "$REPO" run ./hack/images --version check hello >&2
  "$HERE/cluster.sh" load "$REPO/dist/images/hello.oci.tar"
  registry=$("$REPO/hack/tool.sh" registry)
  crane=$("$REPO/hack/tool.sh" crane)
  "$HERE/cluster.sh" hosts registry.check.local http://127.0.0.1:5999
  CHECK_REGISTRY=$registry CHECK_CRANE=$crane "$HERE/cluster.sh" exec "$HERE/check.sh" inside || { "$HERE/cluster.sh" logs cluster-check; exit 1; }
  exit
fi

namespace=cluster-check
k() { kubectl -n "$namespace" "$@"; }
failed=0
scratch=$(mktemp -d)
clean_up() {
  local jobs
  jobs=$(jobs -p)
  [[ -z $jobs ]] || kill $jobs 2>/dev/null || true
  kubectl delete namespace "$namespace" --ignore-not-found >/dev/null
  rm -rf "$scratch"
}
trap clean_up EXIT

# check WHAT COMMAND...: run it for up to 20 s until it succeeds.
check() {
  local what=$1 begin=$SECONDS
  shift
  until "$@" >"$scratch/out" 2>&1; do
    if ((SECONDS - begin > 20)); then
      say "FAIL $what: $(tail -n 3 "$scratch/out" | tr '\n' ' ')"
      failed=1
      return
    fi
    sleep 0.3
  done
  say "ok   $what: $(tail -n 1 "$scratch/out" | cut -c1-100)"
}

port_forward() {
  k port-forward service/hello 18080:80 >/dev/null 2>&1 &
  sleep 1
  curl -sS -m 5 http://127.0.0.1:18080/ || { kill %%; return 1; }
  kill %%
}
no_pods() { [[ -z $(k get pods -l app=hello -o name) ]]; }

kubectl apply -f "$HERE/check/hello.yaml" >/dev/null
check "restricted pods with init container, probes and a claim" k rollout status deployment/hello --timeout=60s
address=$(k get service hello -o jsonpath='{.spec.clusterIP}')
node=$(kubectl get nodes -o jsonpath='{.items[0].status.addresses[?(@.type=="InternalIP")].address}')
pod=$(k get pods -l app=hello -o jsonpath='{.items[0].metadata.name}')
check "ClusterIP from the node" curl -sS -m 5 "http://$address/"
check "NodePort from the node" curl -sS -m 5 "http://$node:30080/"
check "ClusterIP from a pod, hairpin" k exec "$pod" -- /hello get "http://$address/"
check "name of a Service from a pod" k exec "$pod" -- /hello get "http://hello.$namespace.svc.cluster.local/"
check "volume is writable for a non-root pod" k exec "$pod" -- /hello get http://127.0.0.1:8080/count
check "logs" k logs "$pod"
check "port-forward" port_forward
check "rolling restart" sh -c "kubectl -n $namespace rollout restart deployment/hello && kubectl -n $namespace rollout status deployment/hello --timeout=60s"

mkdir -p "$scratch/blobs"
cat >"$scratch/registry.yaml" <<YAML
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $scratch/blobs}}
http: {addr: "127.0.0.1:5999"}
auth: {htpasswd: {realm: check, path: $HERE/check/htpasswd}}
YAML
if [[ $ATCR_CLUSTER_PROVIDER == local ]]; then
  "$CHECK_REGISTRY" serve "$scratch/registry.yaml" >"$scratch/registry.log" 2>&1 &
  mkdir "$scratch/layout"
  tar -xf "$REPO/dist/images/hello.oci.tar" -C "$scratch/layout"
  export DOCKER_CONFIG=$scratch
  check "login" "$CHECK_CRANE" auth login 127.0.0.1:5999 -u check -p check
  check "push" "$CHECK_CRANE" push --index "$scratch/layout" 127.0.0.1:5999/check/hello:1
  k create secret docker-registry login --docker-server=registry.check.local --docker-username=check --docker-password=check >/dev/null
  kubectl apply -f "$HERE/check/pulled.yaml" >/dev/null
  check "pull through hosts.toml with a pull secret" k wait --for=condition=Ready pod/pulled --timeout=15s
fi
k delete deployment hello --wait >/dev/null
check "garbage collection of owned objects" no_pods
exit $failed
