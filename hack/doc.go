// Package hack holds what builds, runs and tests the project, and ships in nothing.
//
//   - demo: `make demo`, its manifests, and its end; story.sh, which writes story.md from what it runs
//   - cluster: the cluster that demo and end-to-end tests use: kind, a local node, or one of yours
//   - node: that local node, a Kubernetes built from Go modules (a module of its own)
//   - images: OCI archives from static binaries, without docker, with bills of materials, and pushes of them
//   - dist.sh: a release: images, install.yaml, charts
//   - fieldref: the reference of every field of the API, from the CRDs
//   - test: what `make test` runs besides `go test`
//   - peers: the reference PDS and PLC directory from npm
//   - tools, tool.sh: pinned tools, each a module of its own, built once into the user's cache folder
//   - lib.sh: what the scripts share
package hack
