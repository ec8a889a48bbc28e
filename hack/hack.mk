# Clusters, images and the demo. Part of the top Makefile.
.PHONY: node images cluster-up cluster-down demo demo-down

node: ## Build the local node's Kubernetes from Go modules (once; in the user's cache folder)
	hack/node/build.sh

images: ## OCI archives of operator, AppView, hold and development world, in dist/images
	go run ./hack/images --version "$(VERSION)" product

cluster-up: ## A cluster to try things on: DEMO_CONTEXT's, kind, or a local node
	hack/cluster/cluster.sh up

cluster-down: ## Remove that cluster
	hack/cluster/cluster.sh down

demo: ## Operator, AppView and hold on a cluster; push an image as alice.test; pods run from it
	hack/demo/demo.sh

demo-down: ## Remove the demo and its cluster; leaves nothing behind
	hack/demo/down.sh
