// Module crds pins where tests take the definitions of optional kinds from. It has no code: its modules are read from the
// module cache (controltest.Env.Install).
module atcr.io/operator/controllers/controltest/crds

go 1.26

require (
	github.com/cert-manager/cert-manager v1.20.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.6.3
)
