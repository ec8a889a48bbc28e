#!/usr/bin/env bash
# dist.sh: what a release is: images for two platforms with their bills of materials, install.yaml (CRDs, RBAC, operator),
# registry.yaml (an AppView and its hold), and the charts; all in dist/. The images' names in them begin with REGISTRY
# (default atcr.local) and end with VERSION. PUSH=1 pushes the images there, with the credentials of docker login. DIST is
# another folder than dist. IMAGES=0 leaves the images out.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

dist=${DIST:-$REPO/dist}
registry=${REGISTRY:-atcr.local}
version=$(version)
mkdir -p "$dist"

if [[ ${IMAGES:-1} == 1 ]]; then
  push=()
  [[ ${PUSH:-} != 1 ]] || push=(--push)
  go -C "$REPO" run ./hack/images --root "$REPO" --out "$dist" --version "$version" --registry "$registry" \
    --arch amd64,arm64 "${push[@]}" atcr-operator atcr-appview atcr-hold
fi

overlay=$(mktemp -d -p "$dist")
trap 'rm -rf "$overlay"' EXIT
kustomize=$("$REPO/hack/tool.sh" kustomize)
cat >"$overlay/kustomization.yaml" <<YAML
resources: ["$(realpath --relative-to="$overlay" "$REPO/config/default")"]
configurations: ["$(realpath --relative-to="$overlay" "$REPO/config/default/images.yaml")"]
images:
- {name: atcr.local/atcr-operator, newName: "$registry/atcr-operator", newTag: "$version"}
- {name: atcr.local/atcr-appview, newName: "$registry/atcr-appview", newTag: "$version"}
YAML
"$kustomize" build --load-restrictor LoadRestrictionsNone "$overlay" >"$overlay/install.yaml"
mv "$overlay/install.yaml" "$dist/install.yaml"
# Not by kustomize, which would drop the comments that say what to change.
sed "s#atcr\.local/atcr-hold:dev#$registry/atcr-hold:$version#" "$REPO/config/registry/registry.yaml" >"$dist/registry.yaml"
say "wrote install.yaml and registry.yaml"

helm=$("$REPO/hack/tool.sh" helm)
for chart in atcr-operator atcr-hold; do
  # Charts name images by tag: the release's, in the release's registry.
  cp -r "$REPO/charts/$chart" "$overlay/$chart"
  sed -i "s#repository: atcr\.local/#repository: $registry/#" "$overlay/$chart/values.yaml"
  "$helm" package "$overlay/$chart" --app-version "$version" --destination "$overlay/packed" >/dev/null
  # Helm writes the time of day into the archive: once more, so that the same sources give the same bytes.
  package=$(basename "$overlay"/packed/"$chart"-*.tgz)
  rm -r "${overlay:?}/$chart"
  tar -xmzf "$overlay/packed/$package" -C "$overlay"
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - -C "$overlay" "$chart" | gzip -n >"$dist/$package"
  say "wrote $package"
done
