#!/usr/bin/env bash
# Runs each fuzz target of the module for FUZZTIME (default 60s), one after the other, and fails at the end when one of
# them found something. Its input is then in testdata/fuzz of the package: commit it with the fix. FUZZ=<expression>
# picks targets by name. An input that is only new is made smaller for a second: by default Go spends the whole time on one.
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t targets < <(git ls-files -co --exclude-standard '*_test.go' | grep -v '^hack/' | xargs grep -HoE '^func Fuzz[A-Za-z0-9_]+' |
  sed -E 's|/[^/]*_test\.go:func | |' | grep -E " .*${FUZZ:-}" | sort -u)
((${#targets[@]} > 0)) || { echo "no fuzz target is named like ${FUZZ:-Fuzz...}" >&2; exit 1; }
failed=()
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for t in "${targets[@]}"; do
  read -r dir name <<<"$t"
  echo "== $dir $name"
  if ! go test "./$dir" -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-60s}" -fuzzminimizetime 1s </dev/null 2>&1 | tee "$out"; then
    # On a busy machine Go's fuzzer may end with this and nothing else, which is no finding.
    if grep -q '^ *context deadline exceeded$' "$out" && ! grep -qE 'Failing input|panic|_test\.go:' "$out"; then continue; fi
    failed+=("$dir $name")
  fi
done
echo "${#targets[@]} targets, ${#failed[@]} with findings"
((${#failed[@]} == 0)) || { printf '%s\n' "${failed[@]}" >&2; exit 1; }
