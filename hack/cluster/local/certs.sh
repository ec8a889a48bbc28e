#!/usr/bin/env bash
# certs.sh FOLDER NODE_NAME NODE_IP SERVICE_IP: one CA, the serving and client certificates of a one-node cluster, a
# kubeconfig per client, and the key that signs service account tokens. ECDSA P-256, valid for ten years.
set -euo pipefail
folder=$1 node_name=$2 node_ip=$3 service_ip=$4
umask 077
mkdir -p "$folder"
cd "$folder"

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

new_ca() {
  new_key ca
  openssl req -x509 -new -key ca.key -subj /CN=atcr-local-ca -days 3650 -out ca.crt \
    -addext keyUsage=critical,keyCertSign,digitalSignature
}

# certificate NAME SUBJECT USAGE [ALTERNATIVE_NAMES]
certificate() {
  local extensions="basicConstraints=CA:FALSE
extendedKeyUsage=$3
${4:+subjectAltName=$4}"
  new_key "$1"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile <(echo "$extensions") -out "$1.crt"
}

# kubeconfig NAME: of the client certificate with that name.
kubeconfig() {
  cat >"$1.kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
clusters:
- name: local
  cluster: {server: "https://127.0.0.1:6443", certificate-authority: "$folder/ca.crt"}
users:
- name: $1
  user: {client-certificate: "$folder/$1.crt", client-key: "$folder/$1.key"}
contexts:
- name: local
  context: {cluster: local, user: $1}
current-context: local
CONFIG
}

{
  new_ca
  names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost
  certificate apiserver /CN=kube-apiserver serverAuth "$names,IP:127.0.0.1,IP:$service_ip,IP:$node_ip"
  certificate kubelet-server "/CN=$node_name" serverAuth "DNS:$node_name,IP:127.0.0.1,IP:$node_ip"
  certificate apiserver-kubelet /O=system:masters/CN=apiserver-kubelet clientAuth
  certificate admin /O=system:masters/CN=admin clientAuth
  certificate controller-manager /CN=system:kube-controller-manager clientAuth
  certificate scheduler /CN=system:kube-scheduler clientAuth
  certificate proxy /CN=system:kube-proxy clientAuth
  certificate kubelet "/O=system:nodes/CN=system:node:$node_name" clientAuth
  openssl genrsa -out service-account.key 2048
  openssl rsa -in service-account.key -pubout -out service-account.pub
} 2>openssl.log || { cat openssl.log >&2; exit 1; }
for client in admin controller-manager scheduler proxy kubelet; do kubeconfig "$client"; done
