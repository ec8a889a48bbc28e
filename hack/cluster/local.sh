# Provider: a one-node Kubernetes from Go modules, with Debian's containerd, runc and CNI plugins. Sourced by cluster.sh.
#
# The whole node lives in its own network, mount, process, IPC and host name namespaces below one `unshare` process:
# when that ends, the kernel ends every process and unmounts everything. What remains is the state folder and empty
# cgroups, which provider_down removes. local/node.sh is what runs inside.
# shellcheck shell=bash disable=SC2154

LOCAL_PACKAGES=(containerd:containerd runc:runc nft:nftables conntrack:conntrack ip:iproute2 openssl:openssl unshare:util-linux)
LOCAL_LOCK=/var/lock/atcr-cluster.lock # one such node at a time on a machine
LOCAL_BOOT_SECONDS=180

provider_prepare() {
  [[ $(uname -s) == Linux ]] || fail "the local node needs Linux; install kind and docker instead"
  ((EUID == 0)) || fail "the local node needs root (namespaces, mounts, containerd): run it with sudo, or install kind and docker"
  install_missing_packages
}

# install_missing_packages: Debian's packages for the commands that are not there; nothing when all are.
install_missing_packages() {
  local missing=() pair
  for pair in "${LOCAL_PACKAGES[@]}"; do
    has "${pair%%:*}" || missing+=("${pair#*:}")
  done
  cni_folder >/dev/null || missing+=(containernetworking-plugins)
  ((${#missing[@]})) || return 0
  has apt-get || fail "the local node needs these programs, and only Debian's can be installed by themselves: ${missing[*]}"
  say "installing Debian packages: ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 ||
    { apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2; } ||
    fail "apt-get could not install ${missing[*]}"
}

# cni_folder: where the CNI plugins are.
cni_folder() {
  local folder
  for folder in /usr/lib/cni /opt/cni/bin; do
    [[ -x $folder/bridge && -x $folder/host-local && -x $folder/loopback ]] && echo "$folder" && return
  done
  return 1
}

# node_images: build the pause and CoreDNS images once; print the folder of the archives.
node_images() {
  local key folder
  key=$(content_key "$REPO"/hack/node/coredns/{go.mod,go.sum,main.go} "$REPO"/hack/images/*.go "$REPO"/hack/images/pause/*.go)
  folder=$CACHE/node-images/$key
  if [[ ! -d $folder/images ]]; then
    say "building the pause and CoreDNS images (once)"
    go -C "$REPO" run ./hack/images --root "$REPO" --out "$folder.tmp.$$" --version 1 node >&2
    mkdir -p "$folder"
    mv "$folder.tmp.$$/images" "$folder/images"
    rm -rf "$folder.tmp.$$"
    forget_old "$CACHE/node-images" 2
  fi
  echo "$folder/images"
}

# started_at PID: the kernel's start time of a process, which tells it from a later one with the same number. Empty
# for a process that ended, even if nobody has collected it yet.
started_at() { sed -n 's/.*) [^ZX] //p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f19; }

# is_up: whether the node of this state folder runs.
is_up() {
  local pid start
  [[ -s $DIR/node.pid ]] || return 1
  read -r pid start <"$DIR/node.pid"
  [[ -n $start && $(started_at "$pid") == "$start" ]]
}

# init_pid: the host's number of process 1 of the node.
init_pid() {
  local pid
  read -r pid _ <"$DIR/node.pid"
  tr -d " " <"/proc/$pid/task/$pid/children"
}

provider_up() {
  if is_up; then
    if [[ -e $DIR/ready ]]; then
      say "the local node is already up"
    else
      say "the local node is still starting"
      follow_boot
    fi
    return
  fi
  local bin images
  bin=$("$REPO/hack/node/build.sh")
  images=$(node_images)
  take_machine_lock
  clear_state # of a node that was killed, or of a boot that failed
  mkdir -p "$DIR/log"
  say "starting the local node"
  ATCR_NODE_BIN=$bin ATCR_NODE_IMAGES=$images ATCR_CNI=$(cni_folder) \
    setsid unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc \
    bash "$HERE/local/node.sh" "$DIR" </dev/null >"$DIR/log/boot.log" 2>&1 9>&- &
  local pid=$!
  echo "$pid $(started_at "$pid")" >"$DIR/node.pid"
  echo "$DIR (process $pid)" >&8
  follow_boot
  exec 8>&-
}

# follow_boot: copy the boot's progress to stderr until the node is ready.
follow_boot() {
  local follower begin=$SECONDS
  tail -n +1 -s 0.2 -f "$DIR/log/boot.log" >&2 8>&- &
  follower=$!
  until [[ -e $DIR/ready ]]; do
    if ! is_up || ((SECONDS - begin > LOCAL_BOOT_SECONDS)); then
      sleep 0.5
      kill "$follower" 2>/dev/null || true
      say "the last lines of each log in $DIR/log:"
      tail -n 5 "$DIR"/log/*.log >&2
      stop_processes
      fail "the local node did not become ready"
    fi
    sleep 0.1
  done
  sleep 0.3 # the follower's polling interval
  kill "$follower" 2>/dev/null || true
  wait "$follower" 2>/dev/null || true
}

# take_machine_lock: file descriptor 8 holds it; the unshare process inherits it for as long as the node lives.
take_machine_lock() {
  exec 8<>"$LOCAL_LOCK"
  if ! flock -n 8; then
    say "another local node runs on this machine: $(head -n 1 "$LOCAL_LOCK")"
    say "waiting up to ${ATCR_CLUSTER_WAIT:-600}s for it to end (ATCR_CLUSTER_WAIT)"
    flock -w "${ATCR_CLUSTER_WAIT:-600}" 8 || fail "the other local node still runs; stop it with cluster.sh down in its checkout"
  fi
  : >"$LOCAL_LOCK"
}

# stop_processes: end the node; the kernel ends every process of its namespaces with process 1.
stop_processes() {
  local pid init
  is_up || return 0
  read -r pid _ <"$DIR/node.pid"
  init=$(init_pid)
  kill -KILL ${init:+"$init"} "$pid" 2>/dev/null || true
  wait_for 20 "the node's processes to end" process_gone "$pid" "$init"
}
process_gone() {
  local pid
  for pid in "$@"; do [[ -z $pid ]] || [[ ! -e /proc/$pid ]] || grep -q '^State:.*Z' "/proc/$pid/status" || return 1; done
}

# clear_state: remove what a node leaves: cgroups, mount points it made, files. Keeps the name of the provider.
clear_state() {
  stop_processes
  wait_for 20 "the pods' cgroups to empty" sweep_cgroups || true
  local folder
  if [[ -s $DIR/made-folders ]]; then
    while read -r folder; do rmdir "$folder" 2>/dev/null || true; done < <(tac "$DIR/made-folders")
  fi
  find "$DIR" -mindepth 1 -maxdepth 1 ! -name provider -exec rm -rf {} +
}

# sweep_cgroups: remove the empty cgroups of pods, in every hierarchy; fails while one is left.
sweep_cgroups() {
  local top left=0
  for top in /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods; do
    [[ -d $top ]] || continue
    find "$top" -depth -type d -exec rmdir {} \; 2>/dev/null
    [[ ! -d $top ]] || left=1
  done
  return $left
}

provider_down() { clear_state; }

provider_status() {
  is_up || fail "the local node is down (its state is in $DIR; up starts it anew, down removes it)"
  echo "provider: local (state $DIR, process $(cut -d' ' -f1 "$DIR/node.pid"))"
  provider_exec kubectl get nodes -o wide
}

# Commands run inside the node's namespaces, in the caller's folder: there is no other way in.
provider_exec() {
  is_up || fail "the local node is down; start it with hack/cluster/cluster.sh up"
  source "$DIR/node.env"
  # shellcheck disable=SC2016
  nsenter --target "$(init_pid)" --net --mount --uts --ipc --pid -- \
    env KUBECONFIG="$NODE_KUBECONFIG" PATH="$NODE_BIN:$PATH" ATCR_CLUSTER_PROVIDER=local \
    sh -c 'cd "$1" && shift && exec "$@"' sh "$PWD" "$@"
}

provider_load() {
  local archive
  source "$DIR/node.env"
  for archive in "$@"; do
    provider_exec ctr --address "$NODE_CONTAINERD" --namespace k8s.io images import "$(realpath "$archive")" >>"$DIR/log/import.log" 2>&1 ||
      fail "could not import $archive; see $DIR/log/import.log"
    say "loaded $(basename "$archive")"
  done
}

# containerd reads the file at every pull.
provider_hosts() {
  mkdir -p "$DIR/certs.d/$1"
  if [[ -d $2 ]]; then cp "$2"/* "$DIR/certs.d/$1/"; else "$HERE/hosts-toml.sh" "$2" >"$DIR/certs.d/$1/hosts.toml"; fi
  say "the node pulls $1 from $2"
}
