package render_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/controllers/render"
)

const authority = `-----BEGIN CERTIFICATE-----
AAAA
-----END CERTIFICATE-----
`

func TestContainerRuntimesAreToldInTheirOwnWords(t *testing.T) {
	av := appView(t, `
baseURL: https://registry.example.com:8443
exposure: {tls: {secretRef: {name: mine}}}
clusterPull: {}`)
	s := render.Resolve(av, defaults)
	endpoint := render.NodeEndpoint(av, s, service())
	require.Equal(t, "https://10.0.0.7:5000", endpoint)
	data := render.NodeConfig(av, s, endpoint, []byte("a key\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"+authority)).Data
	require.Equal(t, map[string]string{
		"ca.crt": authority,
		"registry.example.com_8443_.hosts.toml": `# certs.d/registry.example.com_8443_/hosts.toml in containerd's config_path.
server = "https://registry.example.com:8443"

[host."https://10.0.0.7:5000"]
  capabilities = ["pull", "resolve"]
  ca = "ca.crt" # beside this file
`,
		"registries.yaml": `# /etc/rancher/k3s/registries.yaml or /etc/rancher/rke2/registries.yaml: merge it with what is there.
mirrors:
  "registry.example.com:8443":
    endpoint:
    - "https://10.0.0.7:5000"
configs:
  "10.0.0.7:5000":
    tls:
      ca_file: "/etc/rancher/prod-registry-ca.crt"
`,
		"crio.conf": `# /etc/containers/registries.conf.d/prod-registry.conf
# with ca.crt as /etc/containers/certs.d/10.0.0.7:5000/ca.crt

[[registry]]
prefix = "registry.example.com:8443"
location = "registry.example.com:8443"

[[registry.mirror]]
location = "10.0.0.7:5000"
insecure = false
`,
	}, data)
	var rancher struct {
		Mirrors map[string]struct{ Endpoint []string }
		Configs map[string]struct {
			TLS struct {
				CAFile string `json:"ca_file"`
			}
		}
	}
	require.NoError(t, yaml.UnmarshalStrict([]byte(data["registries.yaml"]), &rancher))
	require.Equal(t, []string{endpoint}, rancher.Mirrors["registry.example.com:8443"].Endpoint)
}

// A node cannot look the Service's name up: there is no way around the endpoint.
func TestANameOfTheClusterIsPulledFromTheEndpointOnly(t *testing.T) {
	av := appView(t, "{exposure: {service: {type: NodePort}}, clusterPull: {endpoint: NodePort}}")
	s := render.Resolve(av, defaults)
	require.Empty(t, render.NodeEndpoint(av, s, nil))
	endpoint := render.NodeEndpoint(av, s, service(corev1.ServicePort{Name: "http", NodePort: 30500}))
	require.Equal(t, "http://localhost:30500", endpoint)
	data := render.NodeConfig(av, s, endpoint, []byte(authority)).Data
	require.NotContains(t, data, "ca.crt", "there is no TLS")
	require.Contains(t, data["registry.prod.svc.cluster.local_5000_.hosts.toml"], "server = \"http://localhost:30500\"\n\n[host.\"http://localhost:30500\"]\n")
	require.Contains(t, data["crio.conf"], `
[[registry]]
prefix = "registry.prod.svc.cluster.local:5000"
location = "localhost:30500"
insecure = true
`)
	require.NotContains(t, data["registries.yaml"], "configs:")
}

func TestRegistriesAreThoseOfTheSpecOrThoseThatItIsExposedAs(t *testing.T) {
	for spec, want := range map[string][]string{
		"clusterPull: {}": {"registry.prod.svc.cluster.local:5000"},
		"{baseURL: 'http://Registry.LAN', clusterPull: {}}":                               {"registry.lan"},
		"{exposure: {ingress: {hosts: [b.example.com, a.example.com]}}, clusterPull: {}}": {"a.example.com", "b.example.com"},
		"clusterPull: {registries: ['X.example.com:1', x.example.com]}":                   {"x.example.com", "x.example.com:1"},
	} {
		av := appView(t, spec)
		require.Equal(t, want, render.Registries(av, render.Resolve(av, defaults)), spec)
	}
}
