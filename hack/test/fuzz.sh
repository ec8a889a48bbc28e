#!/usr/bin/env bash
# Runs each fuzz target of the module for FUZZTIME (default 60s), one after the other.
set -euo pipefail
cd "$(dirname "$0")/../.."
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' api appview controllers | while read -r file; do
  dir=$(dirname "$file")
  grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$file" | cut -d' ' -f2 | while read -r target; do
    echo "== $dir $target"
    go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-60s}"
  done
done
