# Generated code and manifests of the control plane. Part of the top Makefile.
CONTROLLER_GEN ?= $(shell hack/tool.sh controller-gen)

.PHONY: generate manifests

generate: ## Deepcopy and apply configurations of api/
	"$(CONTROLLER_GEN)" object paths=./api/...
	"$(CONTROLLER_GEN)" applyconfiguration paths=./api/...

manifests: ## CRDs and RBAC in config/, the chart's copies, and the field reference in api/
	"$(CONTROLLER_GEN)" crd:generateEmbeddedObjectMeta=false paths=./api/... output:crd:dir=config/crd/bases
	"$(CONTROLLER_GEN)" rbac:roleName=atcr-operator paths=./controllers/... output:rbac:dir=config/rbac
	hack/chart-crds.sh
	go run ./hack/fieldref config/crd/bases api/v1alpha1
