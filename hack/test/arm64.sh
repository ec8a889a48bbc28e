#!/usr/bin/env bash
# arm64.sh: starts the arm64 programs of a release on this machine, by qemu: each says its version, and the AppView makes
# its keys and its database, and answers. After `make dist`, whose binaries it takes; needs Debian's qemu-user-static.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

qemu=qemu-aarch64-static
has $qemu curl || fail "$qemu or curl is missing: apt-get install qemu-user-static curl"
bin=${DIST:-$REPO/dist}/bin/arm64
[[ -x $bin/atcr-appview ]] || fail "there is no $bin/atcr-appview: make dist builds it"

for program in atcr-operator atcr-appview atcr-hold; do
  say "$($qemu "$bin/$program" --version)"
done

scratch=$(mktemp -d)
# No other variable of this shell's, which could be one of the server's.
env -i ATCR_HTTP_ADDR=127.0.0.1:25000 ATCR_DEBUG_ADDR=127.0.0.1:25001 ATCR_BASE_URL=http://127.0.0.1:25000 \
  ATCR_DEFAULT_HOLD_DID=did:web:hold.example.com ATCR_UI_DATABASE_PATH="$scratch/ui.db" ATCR_AUTH_KEY_PATH="$scratch/key.pem" \
  ATCR_AUTH_CERT_PATH="$scratch/key.crt" ATCR_SEALING_KEY_PATH="$scratch/sealing.key" ATCR_DID_KEY_PATH="$scratch/did.key" \
  "$(command -v $qemu)" "$bin/atcr-appview" serve 2>"$scratch/log" &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$scratch"' EXIT

wait_for 60 "the AppView" curl -fsS http://127.0.0.1:25001/healthz || { cat "$scratch/log" >&2; exit 1; }
status=$(curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:25000/v2/)
[[ $status == 401 ]] || { cat "$scratch/log" >&2; fail "/v2/ answers $status, not 401"; }
keys=$(curl -fsS http://127.0.0.1:25001/readyz)
[[ $keys == *signingKey* ]] || fail "/readyz says $keys"
kill -TERM $server
wait $server || fail "the AppView does not end well: $(tail -n 1 "$scratch/log")"
say "the AppView answers, and ends when it is told to"
