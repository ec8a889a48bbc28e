#!/usr/bin/env bash
# tool.sh NAME: build the tool that hack/tools/NAME/go.mod pins, once, and print the path of its binary.
#
#   "$(hack/tool.sh golangci-lint)" run ./...
#
# Each tool is a module of its own, so that its dependencies never touch the product's go.mod. The binary is kept in
# the user's cache folder under a hash of go.mod, go.sum and the Go version. stdout carries the path and nothing else.
# A tool that needs C code has a file named `cgo` beside its go.mod, which says why.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

name=${1:-}
module=$REPO/hack/tools/$name
if [[ -z $name || ! -f $module/go.mod ]]; then
  fail "usage: hack/tool.sh NAME, one of: $(cd "$REPO/hack/tools" && echo *)"
fi

pins=("$module/go.mod" "$module/go.sum")
cgo=0
if [[ -f $module/cgo ]]; then
  pins+=("$module/cgo")
  cgo=1
fi
dir=$CACHE/tools/$name
binary=$dir/$(content_key "${pins[@]}")/$name
if [[ ! -x $binary ]]; then
  one_at_a_time "build-tools"
fi
if [[ ! -x $binary ]]; then
  package=$(GOWORK=off go -C "$module" list tool)
  say "building $name from $package (once; kept in $dir)"
  mkdir -p "$(dirname "$binary")"
  GOWORK=off GOFLAGS=-buildvcs=false CGO_ENABLED=$cgo GOOS='' GOARCH='' \
    go -C "$module" build -trimpath -ldflags '-s -w' -o "$binary.tmp.$$" "$package" >&2
  mv "$binary.tmp.$$" "$binary"
  forget_old "$dir" 2
  say "built $name"
fi
echo "$binary"
