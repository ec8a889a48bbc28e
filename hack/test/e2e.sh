#!/usr/bin/env bash
# The end-to-end tests: a cluster of their own, the images, the operator, and the tests run where the cluster is
# reachable. TEST_KUBECONFIG names an existing cluster instead; the ambient kubeconfig is never used.
# E2E_KEEP=1 leaves the cluster up for a look around.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source hack/lib.sh

export ATCR_CLUSTER_DIR=${ATCR_CLUSTER_DIR:-$REPO/.run/e2e}
if [[ -n ${TEST_KUBECONFIG:-} ]]; then
  export KUBECONFIG=$TEST_KUBECONFIG
  DEMO_CONTEXT=$(kubectl --kubeconfig "$TEST_KUBECONFIG" config current-context)
  export DEMO_CONTEXT
fi
cluster() { hack/cluster/cluster.sh "$@"; }

finish() {
  local rc=$?
  if ((rc != 0)); then cluster logs atcr-system atcr-e2e 2>&1 | tail -n 200 || true; fi
  if [[ -z ${E2E_KEEP:-} ]]; then
    [[ -z ${TEST_KUBECONFIG:-} || -z ${E2E_HELM:-} ]] || cluster exec "$E2E_HELM" uninstall atcr-operator --namespace atcr-system || true
    cluster down
  fi
  exit "$rc"
}
trap finish EXIT

hack/test/deps.sh
say "compiling the tests"
go test -race -c -o /dev/null ./test/e2e
# A rotation waits for what the operator is told about kubelets: here it shows that it waits for the servers.
export ATCR_OPERATOR_ARGS="--key-propagation=2s --clock-skew=1s"
# The demo installs config/default; here it is the chart, which a test upgrades.
export ATCR_INSTALL=chart
hack/cluster/deploy.sh
E2E_HELM=$(hack/tool.sh helm)
export E2E_HELM

E2E_NODE_IP=$(cluster exec kubectl get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
export E2E_NODE_IP
cluster hosts registry.e2e.test "http://$E2E_NODE_IP:30500"
cluster hosts vault.e2e.test "http://$E2E_NODE_IP:30501"
cluster hosts onefile.e2e.test "http://$E2E_NODE_IP:30503"

say "running the tests"
E2E_TAG=$(cat dist/images/TAG) E2E_IMAGES=$REPO/dist/images \
  go test -race -count=1 -timeout "${E2E_TIMEOUT:-20m}" -exec "$REPO/hack/test/in-cluster.sh" ${E2E_FLAGS:-} ./test/e2e
