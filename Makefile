# ATCR on Kubernetes. `make help` lists the targets; each is one line here and a script or a go command behind it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
export VERSION

include hack/hack.mk hack/peers/peers.mk controllers/generate.mk

.PHONY: help run build test test-unit test-clients test-rotation test-alone test-e2e chaos soak lint lint-go lint-api lint-fresh fmt bench bench-operator fuzz clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'

run: ## Server, hold and a development PDS in one process; prints the commands to log in and push
	@go build -o bin/atcr-dev ./appview/cmd/atcr-dev
	@exec bin/atcr-dev

build: ## Build the binaries into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./appview/cmd/... ./controllers/cmd/...

test: test-unit test-e2e ## Everything: unit, real API server, real clients, S3, conformance, and the cluster

test-unit: ## All but the cluster, with the race detector
	hack/test/deps.sh
	KUBEBUILDER_ASSETS="$$(hack/envtest-assets.sh)" go test -race -timeout 25m ./api/... ./appview/... ./controllers/... ./hack/... $$(go list ./test/... | grep -vE '/test/(e2e|clients|conformance|rotation|chaos|bench|bench/operator)$$')
	$(MAKE) --no-print-directory test-clients test-rotation test-alone

# Verbose for their tables, which go test replays when nothing has changed.
test-clients: ## OCI conformance and the matrix of clients; both print a table
	hack/test/deps.sh
	go test -race -v -timeout 25m ./test/conformance ./test/clients | grep -v '^=== '

# Alone, since it is a load; verbose for its counts.
test-rotation: ## Twenty key rotations under 200 pulls a second over three replicas: no pull fails
	hack/test/deps.sh
	KUBEBUILDER_ASSETS="$$(hack/envtest-assets.sh)" go test -race -v -timeout 15m ./test/rotation | grep -v '^=== '

# One after the other: each starts a dozen processes, and a busy machine only makes them slower.
test-alone: ## A short chaos run, every section of the benchmark once, and the operator's with a few objects
	hack/test/deps.sh
	KUBEBUILDER_ASSETS="$$(hack/envtest-assets.sh)" go test -race -p 1 -timeout 20m ./test/chaos ./test/bench/...

test-e2e: ## The cluster path of the demo, on a real kubelet and containerd
	hack/test/e2e.sh

chaos: ## 500 pushes with parallel pulls while every server is killed by kill -9, over both kinds of hold
	CHAOS_PUSHES=$${CHAOS_PUSHES:-500} go test -race -count=1 -v -timeout 90m ./test/chaos

soak: ## Twenty key rotations on the cluster, and ten minutes of load after them (SOAK_SECONDS=600)
	hack/test/soak.sh

lint: lint-go lint-api lint-fresh ## golangci-lint with the import rules, the rules of Kubernetes APIs, and generated files up to date

lint-go:
	"$$(hack/tool.sh golangci-lint)" run ./...

# kube-api-linter is built into the same program.
lint-api:
	"$$(hack/tool.sh golangci-lint)" run --config api/kube-api-linter.yml ./api/v1alpha1/

lint-fresh:
	hack/lint-fresh.sh

fmt: ## Format the Go code
	"$$(hack/tool.sh golangci-lint)" fmt ./...

bench: ## Side by side with distribution: CPU, latency, MB/s, memory (ARGS=-quick, ARGS='-soak 1h'; see test/bench)
	go run ./test/bench/cmd/atcr-bench $(ARGS)

bench-operator: ## The operator with 1,000 AppViews and HoldLinks: writes, requests, latency, restart, heap (OPERATOR_N=1000)
	OPERATOR_N=$${OPERATOR_N:-1000} KUBEBUILDER_ASSETS="$$(hack/envtest-assets.sh)" \
		go test -count=1 -v -timeout 60m ./test/bench/operator | grep -v '^=== '

fuzz: ## Each fuzz target for FUZZTIME (default 60s)
	hack/test/fuzz.sh

clean: ## Remove what was built in the checkout
	rm -rf bin dist
