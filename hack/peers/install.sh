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
dir=$CACHE/peers/$(content_key "$here/package.json" "$here/package-lock.json" "$here/install.sh")

# bundled_node ROOT: the node that the lock brought, when there is one for this machine.
bundled_node() {
  local node
  for node in "$1"/node_modules/node-linux-{x64,arm64}/bin/node; do
    if [[ -x $node ]] && "$node" --version >/dev/null 2>&1; then
      echo "$node"
      return
    fi
  done
}

# build ROOT: better-sqlite3 for that node and with its own headers, without looking for a prebuilt one elsewhere.
build() {
  local node=$1/node
  PATH=$(dirname "$(readlink -f "$node")"):$PATH \
    npm_config_nodedir=$(dirname "$(dirname "$(readlink -f "$node")")") npm_config_build_from_source=true \
    npm --prefix "$1" rebuild better-sqlite3 --foreground-scripts
}

# install ROOT: everything into a new folder.
install() {
  local node
  mkdir -p "$1"
  cp "$here/package.json" "$here/package-lock.json" "$1/"
  npm --prefix "$1" ci --ignore-scripts --no-audit --no-fund || return 1
  node=$(bundled_node "$1")
  if [[ -z $node ]]; then
    node=$(command -v node) || fail "no node for this machine in the lock, and none on the PATH"
    [[ $("$node" -p 'process.versions.node.split(".")[0]') -ge 22 ]] || fail "the reference PDS needs node 22 or newer"
  fi
  ln -sfn "$node" "$1/node"
  build "$1" || return 1
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
  # The link to a bundled node is absolute and named the temporary folder.
  if [[ $(readlink "$new/node") == "$new"/* ]]; then
    ln -sfn "$(readlink "$new/node" | sed "s|^$new/||")" "$new/node"
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
