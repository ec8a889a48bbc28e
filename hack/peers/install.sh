#!/usr/bin/env bash
# install.sh: install the reference peers (PDS, PLC directory, repository verifier) from npm, once, and print the folder:
#
#   dir=$(hack/peers/install.sh) && "$dir/node" "$dir/pds.mjs" --help
#
# The packages are those of package-lock.json, which names no registry: npm uses the one it is configured with.
# `npm run lock` in this folder writes it anew after a change of package.json. What is installed is kept in the user's
# cache folder under a hash of the lock; the scripts beside this one are copied there at each call, because node
# looks for packages from where a script lies. A cold install takes about 2 CPU minutes and 600 MB.
# Progress goes to stderr; stdout is the one line with the folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

here=$REPO/hack/peers
dir=$CACHE/peers/$(content_key "$here/package.json" "$here/package-lock.json")

# link_node ROOT: ROOT/node is the node that the lock brought, or the user's own where it has none for this machine.
link_node() {
  local node
  for node in node_modules/node-linux-{x64,arm64}/bin/node; do
    if [[ -x $1/$node ]] && "$1/$node" --version >/dev/null 2>&1; then
      ln -s "$node" "$1/node"
      return
    fi
  done
  node=$(command -v node) && (($("$node" -p 'process.versions.node.split(".")[0]') >= 22)) && ln -s "$node" "$1/node" && return
  say "error: the lock has no node for this machine, and none of version 22 or newer is on the PATH"
  return 1
}

# install ROOT: everything into a new folder. better-sqlite3 is built for that node and with its own headers; npm would
# look for a prebuilt one elsewhere.
install() {
  local bin
  mkdir -p "$1"
  cp "$here/package.json" "$here/package-lock.json" "$1/"
  npm --prefix "$1" ci --ignore-scripts --no-audit --no-fund || return 1
  link_node "$1" || return 1
  bin=$(dirname "$(readlink -f "$1/node")")
  PATH=$bin:$PATH npm_config_nodedir=$(dirname "$bin") npm_config_build_from_source=true \
    npm --prefix "$1" rebuild better-sqlite3 --foreground-scripts
}

if [[ ! -x $dir/node ]]; then
  has npm g++ make python3 || fail "the peers need npm, and g++, make and python3 to build SQLite's binding"
  one_at_a_time peers
fi
if [[ ! -x $dir/node ]]; then
  say "installing the reference PDS and PLC from npm (once; about a minute; kept in $CACHE/peers)"
  new=$dir.tmp.$$
  trap 'rm -rf "$new"' EXIT
  if ! install "$new" >"$CACHE/peers.log" 2>&1; then
    tail -n 20 "$CACHE/peers.log" >&2
    fail "npm could not install the peers (whole log: $CACHE/peers.log)"
  fi
  mv "$new" "$dir"
  forget_old "$CACHE/peers" 2
  say "installed the reference peers"
fi

for script in "$here"/*.mjs; do
  target=$dir/$(basename "$script")
  if ! cmp -s "$script" "$target"; then
    cp "$script" "$target.tmp.$$"
    mv "$target.tmp.$$" "$target"
  fi
done
echo "$dir"
