package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
)

// Exposure says how clients reach the server.
// +kubebuilder:validation:AtMostOneOf=ingress;gateway
type Exposure struct {
	// service in front of the server's pods; it has the AppView's name.
	// +optional
	Service Service `json:"service,omitempty,omitzero"`

	// ingress in front of the Service; it has the AppView's name. Not with gateway.
	// +optional
	Ingress *Ingress `json:"ingress,omitempty"`

	// gateway that routes to the Service, by an HTTPRoute of the AppView's name. Not with ingress.
	// +optional
	Gateway *Gateway `json:"gateway,omitempty"`

	// tls that the server itself speaks: inside the cluster, and to whoever is in front of it. Default: plain HTTP, and TLS
	// ends in front of the server.
	// +optional
	TLS *TLS `json:"tls,omitempty"`
}

// TLS names the certificate that the server speaks HTTPS with, in one of two ways. Servers take a new one over without a
// restart.
// +kubebuilder:validation:ExactlyOneOf=secretRef;certManager
type TLS struct {
	// secretRef names a Secret of type kubernetes.io/tls, in the AppView's namespace, with tls.crt and tls.key. Label it
	// operator.atcr.io/watch=true to have what is wrong with a new one said at once; else it is read every ten minutes.
	// +optional
	SecretRef *LocalReference `json:"secretRef,omitempty"`

	// certManager asks cert-manager for a certificate.
	// +optional
	CertManager *TLSCertificate `json:"certManager,omitempty"`
}

// TLSCertificate is a Certificate called NAME-server-tls.
type TLSCertificate struct {
	// issuerRef names the issuer.
	// +required
	IssuerRef IssuerReference `json:"issuerRef,omitzero"`

	// dnsNames of the certificate. Default: the host of baseURL, the Service's names, exposed and allowed hosts, and with
	// clusterPull the addresses that nodes use. Public issuers take public names only: list those.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	DNSNames []Hostname `json:"dnsNames,omitempty"`

	// duration of the certificate, 1h or more. Default: 2160h, 90 days.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1h') && duration(self) <= duration('87600h')",message="duration must be between 1h and 87600h, ten years"
	Duration Duration `json:"duration,omitempty"`
}

// Ingress in front of the Service.
type Ingress struct {
	// className of the controller that serves it. Default: the cluster's.
	// +optional
	ClassName ObjectName `json:"className,omitempty"`

	// hosts that it answers for. The first is that of baseURL, unless baseURL names another; the others are allowed hosts.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Hosts []Hostname `json:"hosts,omitempty"`

	// tlsSecretName is the Secret with the certificate of the hosts, which the Ingress controller reads. Default: the
	// controller's own certificate.
	// +optional
	TLSSecretName ObjectName `json:"tlsSecretName,omitempty"`

	// annotations of the Ingress, for example for its controller or for cert-manager.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('operator.atcr.io/'))",message="keys under operator.atcr.io/ are the operator's"
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Gateway that routes to the Service.
type Gateway struct {
	// parentRefs name the Gateways.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	ParentRefs []ParentReference `json:"parentRefs,omitempty"`

	// hostnames of the route. The first is that of baseURL, unless baseURL names another; the others are allowed hosts.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Hostnames []Hostname `json:"hostnames,omitempty"`
}

// ParentReference names a Gateway, as in the Gateway API.
type ParentReference struct {
	// name of the Gateway.
	// +required
	Name ObjectName `json:"name,omitempty"`

	// namespace of the Gateway. Default: the AppView's. The Gateway's listener must admit routes from there.
	// +optional
	Namespace NamespaceName `json:"namespace,omitempty"`

	// sectionName is the listener. Default: every listener that fits.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	SectionName string `json:"sectionName,omitempty"`

	// port of the listener. Default: any.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// Hostname is a host's name in DNS, without a port and without a wildcard: image references name one host.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
type Hostname string

// Service in front of the server's pods.
// +kubebuilder:validation:XValidation:rule="!has(self.nodePort) || (has(self.type) && self.type in ['NodePort','LoadBalancer'])",message="nodePort needs type NodePort or LoadBalancer"
type Service struct {
	// type is ClusterIP (default), NodePort or LoadBalancer.
	// +optional
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	Type corev1.ServiceType `json:"type,omitempty"`

	// port of the Service. Default: 5000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// nodePort to ask for. Default: the cluster chooses.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	NodePort int32 `json:"nodePort,omitempty"`

	// trafficDistribution has pulls stay near: PreferSameZone, PreferSameNode or, before Kubernetes 1.34, PreferClose.
	// Default: any replica.
	// +optional
	// +kubebuilder:validation:Enum=PreferSameZone;PreferSameNode;PreferClose
	TrafficDistribution string `json:"trafficDistribution,omitempty"`

	// annotations of the Service, for example for a load balancer.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('operator.atcr.io/'))",message="keys under operator.atcr.io/ are the operator's"
	Annotations map[string]string `json:"annotations,omitempty"`
}
