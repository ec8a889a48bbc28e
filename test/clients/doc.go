// Package clients pushes and pulls with real clients through the whole path (token login, PDS, hold) and compares what
// comes back byte for byte. Nearly every case runs over a hold on a filesystem and over one on a real S3 server. The
// tests end with a table of what each client was seen to do (matrix_test.go).
//
//   - programs_test.go: skopeo, podman, buildah, crane; containerd_test.go: ctr with a containerd of the test's own;
//     docker_test.go: docker without an engine; artifacts_test.go: helm, oras, regctl and signatures as cosign makes them
//   - libraries_test.go: go-containerregistry and oras-go
//   - formats_test.go: Docker's own media types, zstd and eStargz layers
//   - limits_test.go, stream_test.go: a thousand layers, manifests of 4 MiB, blobs of more than 2 GiB in constant memory
//
// nerdctl and cosign are not among them: the first talks to registries through containerd's resolver, as ctr does here,
// and the second takes longer to build than all others together, for a push of a manifest with a subject.
package clients
