#!/usr/bin/env bash
# volumes.sh FOLDER NODE_NAME: print a default StorageClass and local PersistentVolumes for it, and make their folders.
#
# A local node has no provisioner. `local` volumes, unlike hostPath, honour fsGroup, so pods that run as non-root can
# write. A volume that was released is not given out again: the cluster is thrown away sooner.
set -euo pipefail
folder=$1 node_name=$2
readonly VOLUMES=16 SIZE=5Gi

cat <<MANIFEST
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Retain
MANIFEST
for ((i = 0; i < VOLUMES; i++)); do
  mkdir -p "$folder/$i"
  cat <<MANIFEST
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: local-$i}
spec:
  capacity: {storage: $SIZE}
  accessModes: [ReadWriteOnce]
  storageClassName: standard
  persistentVolumeReclaimPolicy: Retain
  local: {path: "$folder/$i"}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: ["$node_name"]}]
MANIFEST
done
