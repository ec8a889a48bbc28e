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

install_by_kustomize() {
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
}

# The namespace is made first: Helm would make it without the label.
install_by_chart() {
  local helm arg args=
  helm=$("$REPO/hack/tool.sh" helm)
  for arg in ${ATCR_OPERATOR_ARGS:-}; do args+="${args:+,}\"$arg\""; done
  mkdir -p "$DIR/helm"
  sed '/^---$/,$d' "$REPO/config/manager/manager.yaml" | cluster exec kubectl apply -f - >/dev/null
  HELM_CACHE_HOME=$DIR/helm HELM_CONFIG_HOME=$DIR/helm HELM_DATA_HOME=$DIR/helm cluster exec "$helm" upgrade --install atcr-operator \
    "$REPO/charts/atcr-operator" --namespace atcr-system --set "image.tag=$tag,appView.image.tag=$tag" \
    --set-json "extraArgs=[$args]" >"$DIR/helm/install.log" || { cat "$DIR/helm/install.log" >&2; exit 1; }
}

say "installing the operator"
case ${ATCR_INSTALL:-kustomize} in
  kustomize) install_by_kustomize ;;
  chart) install_by_chart ;;
  *) fail "ATCR_INSTALL is kustomize or chart, not $ATCR_INSTALL" ;;
esac
cluster exec kubectl wait --for=condition=Established --timeout=30s crd/appviews.operator.atcr.io crd/holdlinks.operator.atcr.io >/dev/null
if ! cluster exec kubectl -n atcr-system rollout status deployment/atcr-operator --timeout=120s >&2; then
  cluster logs atcr-system >&2
  fail "the operator did not start"
fi
say "the operator is up"
