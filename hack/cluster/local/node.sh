#!/usr/bin/env bash
# node.sh STATE_FOLDER: process 1 of the local node's namespaces. Starts every part of a one-node Kubernetes, writes
# STATE_FOLDER/node.env and STATE_FOLDER/ready, and stays until a part dies or it is killed. Run by ../local.sh.
#
# Environment: ATCR_NODE_BIN (binaries), ATCR_NODE_IMAGES (OCI archives to import), ATCR_CNI (CNI plugins).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/../../lib.sh"
exec 8>&- # the machine's lock belongs to the unshare process above us

state=$1
log=$state/log data=$state/data pki=$state/pki
run=/run/atcr-node # short, for the sockets; vanishes with the mount namespace
containerd_socket=$run/containerd.sock
node_name=atcr-node node_ip=10.250.0.1 pod_subnet=10.244.0.0/24 service_subnet=10.96.0.0/16
service_ip=10.96.0.1 dns_ip=10.96.0.10
export PATH=$ATCR_NODE_BIN:$PATH

# --- Files: everything that the node writes lies in the state folder.

# shadow SOURCE TARGET: bind SOURCE over TARGET, and remember a target that did not exist.
shadow() {
  local target
  target=$(readlink -m "$2")
  if [[ -d $1 ]]; then make_folder "$target"; fi
  if [[ ! -e $target ]]; then
    mkdir -p "$(dirname "$target")"
    : >"$target"
  fi
  mount --bind "$1" "$target"
}

# make_folder PATH: mkdir -p, noting each new folder for the clean-up after the node.
make_folder() {
  [[ ! -d $1 ]] || return 0
  make_folder "$(dirname "$1")"
  mkdir "$1"
  [[ $1 == /run/* ]] || echo "$1" >>"$state/made-folders"
}

prepare_files() {
  mount --make-rshared /
  mount -t tmpfs tmpfs /run
  mkdir -p "$run" /run/lock /run/netns "$data"/{etcd,kubelet,containerd,cni,cni-config,pod-logs,container-logs,volumes} "$state/certs.d"
  chmod 700 "$data/etcd"
  shadow "$data/kubelet" /var/lib/kubelet
  mount --make-rshared /var/lib/kubelet
  shadow "$data/cni" /var/lib/cni
  shadow "$data/cni-config" /etc/cni/net.d
  shadow "$data/pod-logs" /var/log/pods
  shadow "$data/container-logs" /var/log/containers
  printf 'nameserver 127.0.0.1\n' >"$run/resolv.conf"
  shadow "$run/resolv.conf" /etc/resolv.conf
  printf '127.0.0.1 localhost\n%s %s\n' "$node_ip" "$node_name" >"$run/hosts"
  shadow "$run/hosts" /etc/hosts
  # The kubelet insists on these kernel settings. It finds them in shadows; the machine's own stay as they are.
  local setting file
  for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
    file=$run/${setting//[\/=]/-}
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
  done
}

prepare_network() {
  hostname "$node_name"
  ip link set lo up
  ip link add node0 type bridge
  ip address add "$node_ip/24" dev node0
  ip link set node0 up
  ip route add default dev node0
  echo 1 >/proc/sys/net/ipv4/ip_forward
  [[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ]] || echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
}

# --- Parts: each runs in the background with its own log.

declare -A parts=()

# start NAME COMMAND...
start() {
  local name=$1
  shift
  "$@" >"$log/$name.log" 2>&1 &
  parts[$name]=$!
}

# part_died: print the first part that no longer runs.
part_died() {
  local name
  for name in "${!parts[@]}"; do
    kill -0 "${parts[$name]}" 2>/dev/null || { echo "$name"; return; }
  done
  return 1
}

# ready_when SECONDS WHAT COMMAND...: wait for a condition, but no longer than all parts live.
ready_when() {
  local begin=$SECONDS limit=$1 what=$2 dead
  shift 2
  until "$@" >/dev/null 2>&1; do
    if dead=$(part_died); then fail "$dead ended while waiting for $what; see $log/$dead.log"; fi
    ((SECONDS - begin < limit)) || fail "$what: not within ${limit}s"
    sleep 0.1
  done
  say "  $what"
}

start_etcd() {
  start etcd etcd --data-dir "$data/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380
}

# again COMMAND...: run it, and again after each end that somebody asked for, by SIGTERM or SIGKILL.
again() {
  local rc
  while true; do
    rc=0
    "$@" || rc=$?
    ((rc == 0 || rc == 137)) || return "$rc"
  done
}

# The end-to-end tests restart it.
start_apiserver() {
  start kube-apiserver again kube-apiserver --etcd-servers http://127.0.0.1:2379 \
    --bind-address 0.0.0.0 --advertise-address "$node_ip" --secure-port 6443 \
    --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
    --service-account-key-file "$pki/service-account.pub" --service-account-signing-key-file "$pki/service-account.key" \
    --service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range "$service_subnet" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
    --kubelet-preferred-address-types InternalIP --kubelet-certificate-authority "$pki/ca.crt" \
    --kubelet-client-certificate "$pki/apiserver-kubelet.crt" --kubelet-client-key "$pki/apiserver-kubelet.key"
}

start_controllers() {
  local client=$pki/controller-manager.kubeconfig
  # PersistentVolumeClaims would wait up to 15 s with the default binder period.
  start kube-controller-manager kube-controller-manager --kubeconfig "$client" \
    --authentication-kubeconfig "$client" --authorization-kubeconfig "$client" \
    --leader-elect=false --use-service-account-credentials --allocate-node-cidrs=false --pvclaimbinder-sync-period 1s \
    --service-account-private-key-file "$pki/service-account.key" --root-ca-file "$pki/ca.crt" \
    --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key"
  client=$pki/scheduler.kubeconfig
  start kube-scheduler kube-scheduler --kubeconfig "$client" \
    --authentication-kubeconfig "$client" --authorization-kubeconfig "$client" --leader-elect=false
}

# snapshotter: overlayfs does not stack on an overlay, as a container's own root is.
snapshotter() {
  if [[ $(stat -f -c %T "$data") == overlayfs ]]; then echo native; else echo overlayfs; fi
}

start_containerd() {
  cat >"$run/containerd.toml" <<TOML
version = 2
root = "$data/containerd"
state = "$run/containerd"
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "$data/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "atcr.local/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$ATCR_CNI"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$state/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$(snapshotter)"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
  cat >/etc/cni/net.d/10-atcr.conflist <<JSON
{"cniVersion": "0.4.0", "name": "atcr", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pod_subnet"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  start containerd containerd --config "$run/containerd.toml" --log-level info
}

ctr_k8s() { ctr --address "$containerd_socket" --namespace k8s.io "$@"; }

start_kubelet() {
  cat >"$run/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$containerd_socket
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
protectKernelDefaults: true
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$pki/ca.crt"}}
authorization: {mode: Webhook}
tlsCertFile: "$pki/kubelet-server.crt"
tlsPrivateKeyFile: "$pki/kubelet-server.key"
clusterDNS: [$dns_ip]
clusterDomain: cluster.local
resolvConf: $run/resolv.conf
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 0%}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
syncFrequency: 10s
serializeImagePulls: false
# Images that were loaded, not pulled, must not need a registry.
imagePullCredentialsVerificationPolicy: NeverVerify
YAML
  start kubelet kubelet --config "$run/kubelet.yaml" --kubeconfig "$pki/kubelet.kubeconfig" \
    --hostname-override "$node_name" --node-ip "$node_ip" --root-dir /var/lib/kubelet
}

# proxy_mode: nftables where the kernel has it.
proxy_mode() { if nft list tables >/dev/null 2>&1; then echo nftables; else echo iptables; fi; }

start_proxy() {
  cat >"$run/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $(proxy_mode)
# A Service is reachable this soon after it has endpoints; the default is a second.
nftables: {minSyncPeriod: 100ms}
iptables: {minSyncPeriod: 100ms}
clusterCIDR: 10.244.0.0/16
hostnameOverride: $node_name
clientConnection: {kubeconfig: "$pki/proxy.kubeconfig"}
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  start kube-proxy kube-proxy --config "$run/kube-proxy.yaml"
}

import_images() {
  local archive
  for archive in "$ATCR_NODE_IMAGES"/*.tar; do ctr_k8s images import "$archive" >>"$log/import.log" 2>&1; done
}

node_is_ready() {
  kubectl get node "$node_name" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' | grep -qx True
}

dns_is_ready() {
  kubectl -n kube-system get deployment coredns -o 'jsonpath={.status.availableReplicas}' | grep -qx 1
}

main() {
  prepare_files
  prepare_network
  say "  namespaces"
  bash "$HERE/certs.sh" "$pki" "$node_name" "$node_ip" "$service_ip"
  export KUBECONFIG=$pki/admin.kubeconfig
  cat >"$state/node.env" <<ENV
NODE_BIN=${ATCR_NODE_BIN@Q}
NODE_KUBECONFIG=${KUBECONFIG@Q}
NODE_CONTAINERD=${containerd_socket@Q}
NODE_IP=$node_ip
ENV
  start_etcd
  start_apiserver
  start_containerd
  ready_when 60 "containerd" ctr_k8s version
  import_images
  say "  node images imported"
  ready_when 120 "kube-apiserver" kubectl get --raw /readyz
  start_controllers
  start_kubelet
  start_proxy
  bash "$HERE/volumes.sh" "$data/volumes" "$node_name" | kubectl apply -f - >"$log/manifests.log"
  kubectl apply -f "$HERE/coredns.yaml" >>"$log/manifests.log"
  ready_when 60 "node ready" node_is_ready
  ready_when 60 "default service account" kubectl -n default get serviceaccount default
  ready_when 60 "cluster DNS" dns_is_ready
  touch "$state/ready"
  say "the local node is ready"
  wait -n "${parts[@]}" || true
  say "$(part_died) ended; the node stops"
}

main
