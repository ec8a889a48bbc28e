#!/usr/bin/env bash
# push.sh REGISTRY USER ARCHIVE REPOSITORY:TAG: log in to the demo's AppView and push an OCI archive, with the crane that
# DEMO_CRANE names, else with skopeo. DEMO_PASSWORD is the app password. Runs where the cluster is reachable.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
registry=$1 user=$2 archive=$3 target=$1/$4

scratch=$(mktemp -d)
kubectl -n atcr-demo port-forward service/demo "${registry#*:}:5000" >"$scratch/port-forward.log" 2>&1 &
forward=$!
trap 'kill "$forward" 2>/dev/null || true; rm -rf "$scratch"' EXIT
reachable() { (: <"/dev/tcp/${registry%:*}/${registry#*:}"); }
wait_for 30 "the registry at $registry" reachable || { cat "$scratch/port-forward.log" >&2; exit 1; }

if [[ -n ${DEMO_CRANE:-} ]]; then
  export DOCKER_CONFIG=$scratch
  "$DEMO_CRANE" auth login "$registry" --username "$user" --password-stdin <<<"$DEMO_PASSWORD" >&2
  mkdir "$scratch/image"
  tar -xf "$archive" -C "$scratch/image"
  "$DEMO_CRANE" push "$scratch/image" "$target" >&2
else
  skopeo login --tls-verify=false --authfile "$scratch/auth.json" --username "$user" --password-stdin "$registry" <<<"$DEMO_PASSWORD" >&2
  skopeo --insecure-policy copy --dest-tls-verify=false --dest-authfile "$scratch/auth.json" "oci-archive:$archive" "docker://$target" >&2
fi
say "  pushed $target"
