package render

import (
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
)

// Entries of the ConfigMap with files for container runtimes, besides one DIRECTORY.hosts.toml for each registry.
const (
	FileHosts   = "hosts.toml"
	FileRancher = "registries.yaml"
	FileCRIO    = "crio.conf"
	FileCA      = "ca.crt"
)

// NodeEndpoint is the URL that nodes pull from; empty: the spec does not ask for one, or the Service does not give it yet.
func NodeEndpoint(av *v1alpha1.AppView, s Settings, live *corev1.Service) string {
	if av.Spec.ClusterPull == nil {
		return ""
	}
	scheme := "http://"
	if s.TLSSecret != "" {
		scheme = "https://"
	}
	if av.Spec.ClusterPull.Endpoint == v1alpha1.PullNodePort {
		if n := nodePort(live); n != 0 {
			return scheme + net.JoinHostPort("localhost", strconv.Itoa(int(n)))
		}
		return ""
	}
	for _, ip := range clusterIPs(live) {
		return scheme + net.JoinHostPort(ip, strconv.Itoa(int(s.ServicePort)))
	}
	return ""
}

// Registries are the names in image references that nodes are told of.
func Registries(av *v1alpha1.AppView, s Settings) []string {
	var out []string
	for _, r := range av.Spec.ClusterPull.Registries {
		out = append(out, strings.ToLower(string(r)))
	}
	if len(out) == 0 {
		out = append(out, strings.ToLower(hostOfURL(s.BaseURL)))
		for _, h := range ExposedHosts(av) {
			out = append(out, string(h))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ContainerdDirectory is the name of a registry's folder in containerd's config_path. Where a colon cannot be,
// containerd takes host_port_ for host:port.
func ContainerdDirectory(registry string) string {
	if host, port, ok := strings.Cut(registry, ":"); ok {
		return host + "_" + port + "_"
	}
	return registry
}

// NodeConfig is the ConfigMap with files for container runtimes. endpoint is what [NodeEndpoint] says; authorities are
// certificates in PEM that the server's is verified with, empty for those that a node trusts anyway.
func NodeConfig(av *v1alpha1.AppView, s Settings, endpoint string, authorities []byte) *corev1ac.ConfigMapApplyConfiguration {
	n := nodes{av: av, s: s, endpoint: endpoint, host: hostOfURL(endpoint)}
	data := map[string]string{}
	if s.TLSSecret != "" {
		if n.ca = onlyCertificates(authorities); n.ca != "" {
			data[FileCA] = n.ca
		}
	}
	for _, r := range Registries(av, s) {
		data[ContainerdDirectory(r)+"."+FileHosts] = n.containerd(r)
	}
	data[FileRancher], data[FileCRIO] = n.rancher(), n.crio()
	return corev1ac.ConfigMap(NodeConfigName(av.Name), av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, nil)).
		WithOwnerReferences(owner(av)).
		WithData(data)
}

type nodes struct {
	av       *v1alpha1.AppView
	s        Settings
	endpoint string // URL
	host     string // of it, with its port
	ca       string // PEM; empty: none is needed
}

// id is a name for files on a node.
func (n nodes) id() string { return n.av.Namespace + "-" + n.av.Name }

// upstream is the URL that a registry has without the node's configuration; empty: a name of the cluster, which nodes
// cannot look up.
func (n nodes) upstream(registry string) string {
	host, _, _ := strings.Cut(registry, ":")
	if slices.Contains(n.s.ServiceHosts, host) {
		return ""
	}
	if registry == strings.ToLower(hostOfURL(n.s.BaseURL)) {
		return strings.ToLower(n.s.BaseURL)
	}
	return "https://" + registry
}

// containerd renders hosts.toml (containerd's docs/hosts.md). It is read at every pull.
func (n nodes) containerd(registry string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# certs.d/%s/%s in containerd's config_path.\n", ContainerdDirectory(registry), FileHosts)
	server := n.upstream(registry)
	if server == "" {
		server = n.endpoint
	}
	fmt.Fprintf(&b, "server = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", server, n.endpoint)
	if n.ca != "" {
		fmt.Fprintf(&b, "  ca = %q # beside this file\n", FileCA)
	}
	return b.String()
}

// rancher renders registries.yaml of k3s and RKE2, which is read when the agent starts.
func (n nodes) rancher() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# /etc/rancher/k3s/%[1]s or /etc/rancher/rke2/%[1]s: merge it with what is there.\nmirrors:\n", FileRancher)
	for _, r := range Registries(n.av, n.s) {
		fmt.Fprintf(&b, "  %q:\n    endpoint:\n    - %q\n", r, n.endpoint)
	}
	if n.ca != "" {
		fmt.Fprintf(&b, "configs:\n  %q:\n    tls:\n      ca_file: %q\n", n.host, "/etc/rancher/"+n.id()+"-"+FileCA)
	}
	return b.String()
}

// crio renders a drop-in of containers-registries.conf(5), which CRI-O reads when it is reloaded.
func (n nodes) crio() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# /etc/containers/registries.conf.d/%s.conf\n", n.id())
	if n.ca != "" {
		fmt.Fprintf(&b, "# with %s as /etc/containers/certs.d/%s/%s\n", FileCA, n.host, FileCA)
	}
	insecure := strings.HasPrefix(n.endpoint, "http://")
	for _, r := range Registries(n.av, n.s) {
		if n.upstream(r) == "" {
			fmt.Fprintf(&b, "\n[[registry]]\nprefix = %q\nlocation = %q\ninsecure = %t\n", r, n.host, insecure)
			continue
		}
		fmt.Fprintf(&b, "\n[[registry]]\nprefix = %[1]q\nlocation = %[1]q\n\n[[registry.mirror]]\nlocation = %[2]q\ninsecure = %[3]t\n", r, n.host, insecure)
	}
	return b.String()
}

// onlyCertificates leaves out whatever else a Secret's entry holds: a ConfigMap is no place for a key.
func onlyCertificates(raw []byte) string {
	var b strings.Builder
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
		}
	}
	return b.String()
}

// Where KEP-1755 has tools look.
const (
	LocalRegistryNamespace = "kube-public"
	LocalRegistryName      = "local-registry-hosting"
	fileLocalRegistry      = "localRegistryHosting.v1"
)

// LocalRegistry is the ConfigMap of KEP-1755.
func LocalRegistry(av *v1alpha1.AppView, s Settings) *corev1ac.ConfigMapApplyConfiguration {
	host := strings.ToLower(hostOfURL(s.BaseURL))
	nodes := host
	if all := Registries(av, s); !slices.Contains(all, host) {
		nodes = all[0]
	}
	return corev1ac.ConfigMap(LocalRegistryName, LocalRegistryNamespace).
		WithLabels(LabelsElsewhere(av)).
		WithAnnotations(annotations(av, nil)).
		WithData(map[string]string{fileLocalRegistry: fmt.Sprintf("host: %q\nhostFromContainerRuntime: %q\nhostFromClusterNetwork: %q\n",
			host, nodes, hostOfURL(s.ServiceURL()))})
}
