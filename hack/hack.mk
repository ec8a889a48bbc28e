# Clusters, images and the demo. Part of the top Makefile.
.PHONY: node images dist push cluster-up cluster-down demo demo-down

node: ## Build the local node's Kubernetes from Go modules (once; in the user's cache folder)
	hack/node/build.sh

images: ## OCI archives of operator, AppView, hold and development world, in dist/images
	go run ./hack/images --version "$(VERSION)" product

dist: ## A release in dist/: images for amd64 and arm64, their bills of materials, install.yaml, registry.yaml, charts
	hack/dist.sh

push: ## The same, and push the images to REGISTRY (host and path), as docker login or podman login let you
	@test -n "$(REGISTRY)" || { echo "usage: make push REGISTRY=registry.example.com/alice.example.com" >&2; exit 2; }
	PUSH=1 hack/dist.sh

cluster-up: ## A cluster to try things on: DEMO_CONTEXT's, kind, or a local node
	hack/cluster/cluster.sh up

cluster-down: ## Remove that cluster
	hack/cluster/cluster.sh down

demo: ## Operator, AppView and hold on a cluster; push an image as alice.test; pods run from it
	hack/demo/demo.sh

demo-down: ## Remove the demo and its cluster; leaves nothing behind
	hack/demo/down.sh
