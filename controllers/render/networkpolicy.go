package render

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
)

// Peer is pods of a namespace by their labels.
type Peer struct {
	Namespace string
	Labels    map[string]string
}

// Destination is what the server connects to. A network policy sees a connection after the cluster has put a pod's
// address and port in place of a Service's, so those of the pods count.
type Destination struct {
	Pods   *Peer        // behind a Service
	Prefix netip.Prefix // addresses; without either: everywhere
	Ports  []intstr.IntOrString
}

// dnsPorts: the pods of some clusters' DNS listen on 5353.
var dnsPorts = []int{53, 5353}

// NetworkPolicy of the server's pods. operator is where the operator runs; nil: outside the cluster, so that its address
// is not known. metricsOpen says that a Prometheus somewhere in the cluster reads metrics.
func NetworkPolicy(av *v1alpha1.AppView, operator *Peer, metricsOpen bool, to []Destination) *networkingv1ac.NetworkPolicyApplyConfiguration {
	want := av.Spec.NetworkPolicy
	debug := networkingv1ac.NetworkPolicyIngressRule().WithPorts(port(corev1.ProtocolTCP, intstr.FromInt32(names.PortDebug)))
	if operator != nil {
		debug.WithFrom(peer(*operator))
		for i := range want.MetricsFrom {
			debug.WithFrom(same[networkingv1ac.NetworkPolicyPeerApplyConfiguration](want.MetricsFrom[i]))
		}
		if metricsOpen && len(want.MetricsFrom) == 0 {
			debug.WithFrom(networkingv1ac.NetworkPolicyPeer().WithNamespaceSelector(metav1ac.LabelSelector()))
		}
	}
	spec := networkingv1ac.NetworkPolicySpec().
		WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(Selector(av.Name))).
		WithPolicyTypes(networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress).
		WithIngress(
			networkingv1ac.NetworkPolicyIngressRule().WithPorts(port(corev1.ProtocolTCP, intstr.FromInt32(names.PortHTTP))),
			debug).
		WithEgress(dns()).
		WithEgress(egress(av, to)...)
	for i := range want.ExtraEgress {
		spec.WithEgress(same[networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration](withProtocols(want.ExtraEgress[i])))
	}
	return networkingv1ac.NetworkPolicy(av.Name, av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, nil)).
		WithOwnerReferences(owner(av)).
		WithSpec(spec)
}

func dns() *networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration {
	rule := networkingv1ac.NetworkPolicyEgressRule()
	for _, p := range dnsPorts {
		rule.WithPorts(port(corev1.ProtocolUDP, intstr.FromInt(p)), port(corev1.ProtocolTCP, intstr.FromInt(p)))
	}
	return rule
}

// egress is one rule for the ports that are open everywhere, and one for each other destination.
func egress(av *v1alpha1.AppView, to []Destination) []*networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration {
	everywhere := []intstr.IntOrString{intstr.FromInt32(443)}
	var narrow []Destination
	for _, d := range to {
		if d.Pods == nil && !d.Prefix.IsValid() {
			everywhere = append(everywhere, d.Ports...)
		} else {
			narrow = append(narrow, d)
		}
	}
	for _, c := range av.Spec.Network.AllowedPrivateCIDRs {
		prefix, err := netip.ParsePrefix(string(c))
		if err != nil {
			continue // not one that validation lets through
		}
		d := Destination{Prefix: prefix.Masked()}
		for _, p := range av.Spec.Network.AllowedPrivatePorts {
			d.Ports = append(d.Ports, intstr.FromInt32(p))
		}
		if len(d.Ports) > 0 {
			d.Ports = append(d.Ports, intstr.FromInt32(80), intstr.FromInt32(443)) // allowed in every private range
		}
		narrow = append(narrow, d)
	}
	rule := networkingv1ac.NetworkPolicyEgressRule()
	for _, p := range sorted(everywhere) {
		rule.WithPorts(port(corev1.ProtocolTCP, p))
	}
	out := []*networkingv1ac.NetworkPolicyEgressRuleApplyConfiguration{rule}
	seen := map[string]bool{}
	slices.SortFunc(narrow, func(a, b Destination) int { return cmp.Compare(a.key(), b.key()) })
	for _, d := range narrow {
		if seen[d.key()] {
			continue
		}
		seen[d.key()] = true
		rule := networkingv1ac.NetworkPolicyEgressRule()
		if d.Pods != nil {
			rule.WithTo(peer(*d.Pods))
		} else {
			rule.WithTo(networkingv1ac.NetworkPolicyPeer().WithIPBlock(networkingv1ac.IPBlock().WithCIDR(d.Prefix.String())))
		}
		for _, p := range sorted(d.Ports) {
			rule.WithPorts(port(corev1.ProtocolTCP, p))
		}
		out = append(out, rule)
	}
	return out
}

// key is the destination as a string, the same for the same one.
func (d Destination) key() string {
	raw, _ := json.Marshal([]any{d.Pods, d.Prefix, sorted(d.Ports)})
	return string(raw)
}

func sorted(ports []intstr.IntOrString) []intstr.IntOrString {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b intstr.IntOrString) int {
		return cmp.Or(cmp.Compare(a.IntValue(), b.IntValue()), cmp.Compare(a.String(), b.String()))
	})
	return slices.Compact(ports)
}

func port(protocol corev1.Protocol, p intstr.IntOrString) *networkingv1ac.NetworkPolicyPortApplyConfiguration {
	return networkingv1ac.NetworkPolicyPort().WithProtocol(protocol).WithPort(p)
}

func peer(p Peer) *networkingv1ac.NetworkPolicyPeerApplyConfiguration {
	return networkingv1ac.NetworkPolicyPeer().
		WithNamespaceSelector(metav1ac.LabelSelector().WithMatchLabels(map[string]string{corev1.LabelMetadataName: p.Namespace})).
		WithPodSelector(metav1ac.LabelSelector().WithMatchLabels(p.Labels))
}

// withProtocols is r with the protocol that the API server would fill in: what is applied must be what is read back.
func withProtocols(r networkingv1.NetworkPolicyEgressRule) networkingv1.NetworkPolicyEgressRule {
	r = *r.DeepCopy()
	for i := range r.Ports {
		if r.Ports[i].Protocol == nil {
			r.Ports[i].Protocol = new(corev1.ProtocolTCP)
		}
	}
	return r
}
