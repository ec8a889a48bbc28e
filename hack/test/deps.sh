#!/usr/bin/env bash
# Installs the real parts that tests drive, when they are missing: OCI clients from Debian and from their Go modules,
# PostgreSQL from Debian, the S3 server and the conformance program, the reference PDS from npm. Idempotent. Where it
# cannot install, it names what is missing and goes on: outside CI the tests that need it skip with a reason, in CI they
# fail.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=()
need() { command -v "$1" >/dev/null 2>&1 || packages+=("$2"); }
need skopeo skopeo
need podman podman
need buildah buildah
need ctr containerd
need g++ g++
need make make
need python3 python3
# Debian keeps the server's programs out of PATH.
command -v postgres >/dev/null 2>&1 || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql)

if ((${#packages[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "installing ${packages[*]}" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  else
    echo "missing ${packages[*]}: install them with your package manager to run every test" >&2
  fi
fi

for tool in conformance crane helm kustomize oras regctl tap versitygw; do
  hack/tool.sh "$tool" >/dev/null
done
if command -v npm >/dev/null 2>&1; then
  hack/peers/install.sh >/dev/null
else
  echo "missing npm: the tests against the reference PDS need it" >&2
fi
