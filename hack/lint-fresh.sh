#!/usr/bin/env bash
# Fails when generated files or go.mod are stale: regenerates them in a copy of the tree and compares.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do
  [[ -e $f ]] && printf '%s\0' "$f"
done | tar --null -T - -cf - | tar -C "$copy" -xf -

tools=$(hack/tool.sh controller-gen) # built outside the copy, once
export CONTROLLER_GEN=$tools
(cd "$copy" && make --no-print-directory generate manifests && go mod tidy)

for path in api config controllers charts go.mod go.sum; do
  [[ -e $path ]] || continue
  if ! diff -ruN "$path" "$copy/$path" >"$copy.diff"; then
    head -40 "$copy.diff" >&2
    rm -f "$copy.diff"
    echo "stale: $path. Run: make generate manifests && go mod tidy" >&2
    exit 1
  fi
  rm -f "$copy.diff"
done
echo "generated files are up to date"
