# Shared by the scripts in hack/: messages with elapsed time, the cache folder, waiting. Source it, do not run it.
# shellcheck shell=bash
shopt -s inherit_errexit

# Root of the checkout.
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What is built once and kept between runs.
CACHE=${ATCR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/atcr-operator}

# Start of the outermost script, in milliseconds, so that nested scripts count from the same moment.
export ATCR_START_MS=${ATCR_START_MS:-$(date +%s%3N)}

# say MESSAGE...: a progress line on stderr (stdout carries results).
say() {
  local ms=$(($(date +%s%3N) - ATCR_START_MS))
  printf '[%5d.%ds] %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*" >&2
}

# fail MESSAGE...: say why and exit.
fail() {
  say "error: $*"
  exit 1
}

# has COMMAND...: whether every command is there.
has() {
  local c
  for c in "$@"; do command -v "$c" >/dev/null 2>&1 || return 1; done
}

# wait_for SECONDS WHAT COMMAND...: run the command until it succeeds; every 5 seconds say what is waited for.
wait_for() {
  local limit=$1 what=$2 begin=$SECONDS told=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS - begin >= limit)); then
      say "gave up waiting for $what after ${limit}s"
      return 1
    fi
    if ((SECONDS - told >= 5)); then
      say "  waiting for $what ($((SECONDS - begin))s)"
      told=$SECONDS
    fi
    sleep 0.2
  done
}

# content_key FILE...: a short hash of the files' bytes and the Go version, to name what is built from them.
content_key() {
  { go env GOVERSION GOOS GOARCH; cat "$@"; } | sha256sum | cut -c1-16
}

# one_at_a_time NAME: hold a lock of that name until this shell exits; says so when another run has it.
one_at_a_time() {
  mkdir -p "$CACHE/locks"
  exec 9>"$CACHE/locks/$1"
  if ! flock -n 9; then
    say "another run is busy with $1, waiting for it"
    flock 9
  fi
}

# forget_old DIR KEEP: keep only the newest KEEP entries of a cache folder.
forget_old() {
  local old
  ls -1dt "$1"/* 2>/dev/null | tail -n "+$(($2 + 1))" | while read -r old; do rm -rf "$old"; done
}

# version: what this checkout builds: VERSION, or git's description.
version() {
  echo "${VERSION:-$(git -C "$REPO" describe --tags --always --dirty 2>/dev/null || echo dev)}"
}
