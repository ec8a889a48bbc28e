#!/usr/bin/env bash
# hosts-toml.sh URL: print the hosts.toml by which containerd pulls a registry from URL.
set -euo pipefail
cat <<TOML
server = "$1"

[host."$1"]
  capabilities = ["pull", "resolve"]
TOML
