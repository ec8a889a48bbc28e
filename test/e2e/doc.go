// Package e2e is the path of `make demo` as a test, on a real API server, kubelet and containerd: an AppView and its
// HoldLinks become Ready, a real client pushes, pods run from what was pushed, and deletion keeps what it promises.
//
// Run it with `make test-e2e`, which starts a cluster (kind, or the local node of hack/cluster), loads the images,
// installs the operator, and runs the compiled test where the cluster is reachable. The tests know only these
// variables: TEST_KUBECONFIG, E2E_TAG (of the images), E2E_IMAGES (folder of the OCI archives), and
// E2E_HOSTS (a command that tells the nodes where a registry name is served).
package e2e
