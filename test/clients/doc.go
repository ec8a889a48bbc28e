// Package clients pushes and pulls with real clients through the whole path (token login, PDS, hold) and compares
// what comes back byte for byte: skopeo, podman and buildah as programs; crane and oras as libraries. Every case runs
// over a hold on a filesystem and over one on a real S3 server.
package clients
