// Package e2e is the path of `make demo` as a test, on a real API server, kubelet and containerd: an AppView and its
// HoldLinks become Ready, a real client pushes, pods run from what was pushed, and deletion keeps what it promises. A
// registry of three replicas serves a load of pulls while its keys rotate and while disruption_test.go rolls it out, kills
// a server and the operator, cordons and evicts, and restarts the API server.
//
// Run it with `make test-e2e`, which starts a cluster (kind, or the local node of hack/cluster), loads the images,
// installs the operator by its Helm chart, and runs the compiled test where the cluster is reachable. The tests know only
// these variables: TEST_KUBECONFIG, E2E_TAG (of the images), E2E_IMAGES (folder of the OCI archives), E2E_NODE_IP,
// E2E_HELM (its path), and for
// `make soak` E2E_ROTATIONS (of the signing key under load; 3) and E2E_SOAK_SECONDS (of load after the last; 0).
package e2e
