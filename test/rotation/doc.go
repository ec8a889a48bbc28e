// Package rotation proves that signing keys change without a client noticing: pulls with real tokens go on at a steady
// rate over several replicas while the operator rotates the key again and again, and none of them fails.
//
//   - load.go: [Load], clients that pull as docker and containerd do: challenge, token, manifest, blob; also for test/e2e
//   - client.go: one such client
//   - rotation_test.go: the proof in one process: the real operator on a real API server, three real servers over one
//     PostgreSQL, and a stand-in for the kubelets in between
//   - kubelet_test.go: that stand-in: it brings a Secret to each replica's folder as a kubelet does, late
//   - replicas_test.go: the servers
//
// What the load counts as an unexpected 401 is one for a token that the client was given and that is not over. The
// cluster's part of the proof is in test/e2e, the long one is `make soak`.
package rotation
