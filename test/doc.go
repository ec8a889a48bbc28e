// Package test holds what needs more than one package: each folder is readable on its own.
//
//   - clients: real clients (skopeo, podman, buildah, crane, oras) push and pull, byte for byte
//   - conformance: the OCI distribution-spec conformance program over the full path
//   - peers: the same against the reference PDS and PLC directory from npm
//   - e2e: the cluster path of `make demo`, on a real kubelet and containerd
//   - chart: the Helm chart renders what config/ installs, and a release lives and dies on a real API server
//   - rotation: signing keys rotate under a steady load of pulls, and no pull fails (`make test-rotation`)
//   - bench: side by side with distribution (`make bench`), and bench/operator the operator with many objects (`make
//     bench-operator`); never a timed assertion
//   - chaos: AppViews, hold, PDS and database are killed during pushes and pulls; no acknowledged push is lost
//   - testenv: what may be skipped, and where a skip is a failure
package test
