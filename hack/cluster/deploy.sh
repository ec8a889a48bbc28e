#!/usr/bin/env bash
# deploy.sh: a cluster with this checkout's operator in it: starts the cluster (cluster.sh), builds the images, loads
# them, installs config/default and waits for the operator. Again on a running cluster: takes over what changed.
# Writes dist/images/TAG, the tag of what was loaded. ATCR_OPERATOR_ARGS are more flags for the operator.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../lib.sh"

DIR=${ATCR_CLUSTER_DIR:-$REPO/.run/cluster}
cluster() { "$HERE/cluster.sh" "$@"; }

# A node keeps the image it has for a tag, so every build of uncommitted work gets a tag of its own.
tag=$(version)
[[ $tag != *-dirty ]] || tag=$tag-$(date -u +%H%M%S)

cluster up

say "building the images"
go -C "$REPO" run ./hack/images --root "$REPO" --out "$REPO/dist" --version "$tag" product hello >&2
echo "$tag" >"$REPO/dist/images/TAG"
# Not hello: nodes shall pull it from the registry.
cluster load "$REPO"/dist/images/{atcr-operator,atcr-appview,atcr-hold,atcr-dev}.oci.tar

say "installing the operator"
overlay=$DIR/operator
mkdir -p "$overlay"
cat >"$overlay/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: ["$(realpath --relative-to="$overlay" "$REPO/config/default")"]
images:
- {name: atcr.local/atcr-operator, newTag: "$tag"}
- {name: atcr.local/atcr-appview, newTag: "$tag"}
YAML
if [[ -n ${ATCR_OPERATOR_ARGS:-} ]]; then
  {
    echo "patches:"
    echo "- target: {kind: Deployment, name: atcr-operator}"
    echo "  patch: |-"
    for arg in $ATCR_OPERATOR_ARGS; do
      echo "    - {op: add, path: /spec/template/spec/containers/0/args/-, value: \"$arg\"}"
    done
  } >>"$overlay/kustomization.yaml"
fi
cluster exec kubectl apply --server-side -k "$overlay" >"$DIR/operator/apply.log" || { cat "$DIR/operator/apply.log" >&2; exit 1; }
cluster exec kubectl wait --for=condition=Established --timeout=30s crd/appviews.operator.atcr.io crd/holdlinks.operator.atcr.io >/dev/null
if ! cluster exec kubectl -n atcr-system rollout status deployment/atcr-operator --timeout=120s >&2; then
  cluster logs atcr-system >&2
  fail "the operator did not start"
fi
say "the operator is up"
