package render

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
)

// Names of the server's port, in pods and Service. Pods that speak HTTP do not get what is meant for those that speak
// HTTPS: the Service finds them by it.
const (
	portHTTP  = "http"
	portHTTPS = "https"
)

// PortName is that of the port that the spec asks for.
func PortName(s Settings) string {
	if s.TLSSecret != "" {
		return portHTTPS
	}
	return portHTTP
}

// PodPortName is that of the port that a Deployment's pods have; empty: none that the operator gave them.
func PodPortName(d *appsv1.Deployment) string {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, p := range c.Ports {
			if c.Name == ServerContainer && (p.Name == portHTTP || p.Name == portHTTPS) {
				return p.Name
			}
		}
	}
	return ""
}

// ServicePortName is that of the port that a Service has; empty: none that the operator gave it.
func ServicePortName(live *corev1.Service) string { return servicePort(live).Name }

func servicePort(live *corev1.Service) corev1.ServicePort {
	for _, p := range live.Spec.Ports {
		if p.Name == portHTTP || p.Name == portHTTPS {
			return p
		}
	}
	return corev1.ServicePort{}
}

// ServiceAccount of the server's pods. It has no rights and no mounted token: the server knows nothing of Kubernetes.
func ServiceAccount(av *v1alpha1.AppView) *corev1ac.ServiceAccountApplyConfiguration {
	return corev1ac.ServiceAccount(av.Name, av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, nil)).
		WithOwnerReferences(owner(av)).
		WithAutomountServiceAccountToken(false)
}

// Service in front of the server's pods, whose port has that name. The port for probes, metrics and profiles is not exposed.
func Service(av *v1alpha1.AppView, s Settings, portName string) *corev1ac.ServiceApplyConfiguration {
	port := corev1ac.ServicePort().
		WithName(portName).
		WithProtocol(corev1.ProtocolTCP).
		WithPort(s.ServicePort).
		WithTargetPort(intstr.FromString(portName))
	if portName == portHTTPS {
		port.WithAppProtocol(portHTTPS) // for those in front that go by it
	}
	if n := av.Spec.Exposure.Service.NodePort; n != 0 {
		port.WithNodePort(n)
	}
	spec := corev1ac.ServiceSpec().
		WithType(s.ServiceType).
		WithSelector(Selector(av.Name)).
		WithPorts(port)
	if near := av.Spec.Exposure.Service.TrafficDistribution; near != "" {
		spec.WithTrafficDistribution(near)
	}
	own := maps.Clone(av.Spec.Exposure.Service.Annotations)
	return corev1ac.Service(av.Name, av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, own)).
		WithOwnerReferences(owner(av)).
		WithSpec(spec)
}

func hostOfURL(base string) string {
	return strings.TrimPrefix(strings.TrimPrefix(base, "https://"), "http://")
}

// maxEndpoints is how many status takes: some clusters give a load balancer the address of every node.
const maxEndpoints = 32

// Endpoints that live, the Service as the cluster has it, gives besides the base URL.
func Endpoints(s Settings, live *corev1.Service) []v1alpha1.Endpoint {
	out := []v1alpha1.Endpoint{{Type: v1alpha1.EndpointHostname, Value: hostOfURL(s.ServiceURL())}}
	port := strconv.Itoa(int(s.ServicePort))
	for _, ip := range clusterIPs(live) {
		out = append(out, v1alpha1.Endpoint{Type: v1alpha1.EndpointClusterIP, Value: net.JoinHostPort(ip, port)})
	}
	if n := nodePort(live); n != 0 {
		out = append(out, v1alpha1.Endpoint{Type: v1alpha1.EndpointNodePort, Value: strconv.Itoa(int(n))})
	}
	for _, host := range loadBalancerHosts(live) {
		out = append(out, v1alpha1.Endpoint{Type: v1alpha1.EndpointLoadBalancer, Value: net.JoinHostPort(host, port)})
	}
	return out[:min(len(out), maxEndpoints)]
}

// AllowedHosts are the Host values that clients inside the cluster and on its nodes use, and those of the spec. The
// token realm follows them, so that a pull through the Service never leaves it for the base URL.
func AllowedHosts(av *v1alpha1.AppView, s Settings, live *corev1.Service) []string {
	var hosts []string
	add := func(host string, port int32) {
		hosts = append(hosts, fmt.Sprintf("%s:%d", bracket(host), port))
		if port == 80 || port == 443 { // clients leave out the port of the scheme
			hosts = append(hosts, bracket(host))
		}
	}
	for _, h := range slices.Concat(s.ServiceHosts, clusterIPs(live), loadBalancerHosts(live)) {
		add(h, s.ServicePort)
	}
	if n := nodePort(live); n != 0 {
		add("localhost", n)
		add("127.0.0.1", n)
	}
	for _, h := range ExposedHosts(av) {
		hosts = append(hosts, string(h))
	}
	for _, h := range av.Spec.AllowedHosts {
		hosts = append(hosts, strings.ToLower(string(h)))
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

func clusterIPs(live *corev1.Service) []string {
	if live == nil {
		return nil
	}
	ips := live.Spec.ClusterIPs
	if len(ips) == 0 && live.Spec.ClusterIP != "" {
		ips = []string{live.Spec.ClusterIP}
	}
	return slices.DeleteFunc(slices.Clone(ips), func(ip string) bool { return ip == "" || ip == corev1.ClusterIPNone })
}

func nodePort(live *corev1.Service) int32 {
	if live == nil || live.Spec.Type == corev1.ServiceTypeClusterIP {
		return 0
	}
	return servicePort(live).NodePort
}

func loadBalancerHosts(live *corev1.Service) []string {
	if live == nil {
		return nil
	}
	var hosts []string
	for _, i := range live.Status.LoadBalancer.Ingress {
		if h := i.Hostname + i.IP; h != "" && (i.Hostname == "" || i.IP == "") {
			hosts = append(hosts, h)
		} else if h != "" {
			hosts = append(hosts, i.Hostname, i.IP)
		}
	}
	return hosts
}

func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}
