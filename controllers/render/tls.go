package render

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"atcr.io/operator/api/v1alpha1"
)

// tlsSecret is the Secret with the server's certificate; empty: the server speaks plain HTTP.
func tlsSecret(av *v1alpha1.AppView) string {
	switch t := av.Spec.Exposure.TLS; {
	case t == nil:
		return ""
	case t.SecretRef != nil:
		return string(t.SecretRef.Name)
	case t.CertManager != nil:
		return ServerCertificateName(av.Name)
	}
	return ""
}

// ServerCertificate asks cert-manager for the server's certificate; av's spec must name an issuer. live is the Service as
// the cluster has it.
func ServerCertificate(av *v1alpha1.AppView, s Settings, live *corev1.Service) *unstructured.Unstructured {
	want := av.Spec.Exposure.TLS.CertManager
	spec := map[string]any{
		"secretName":     ServerCertificateName(av.Name),
		"secretTemplate": map[string]any{"labels": watchedLabels(av)},
		"privateKey":     map[string]any{"algorithm": "ECDSA", "size": int64(256), "encoding": "PKCS8", "rotationPolicy": "Always"},
		"duration":       Duration(want.Duration, signingInterval).String(),
		"usages":         []any{"digital signature", "server auth"},
		"issuerRef":      issuer(want.IssuerRef),
	}
	names, addresses := CertificateHosts(av, s, live)
	for field, values := range map[string][]string{"dnsNames": names, "ipAddresses": addresses} {
		if len(values) > 0 {
			list := make([]any, len(values))
			for i, v := range values {
				list[i] = v
			}
			spec[field] = list
		}
	}
	return object(av, CertificateKind, ServerCertificateName(av.Name), spec)
}

// CertificateHosts are the names and addresses that the server's certificate is for, unless the spec lists names.
func CertificateHosts(av *v1alpha1.AppView, s Settings, live *corev1.Service) (names, addresses []string) {
	add := func(host string) {
		if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
			addresses = append(addresses, a.String())
		} else if len(validation.IsDNS1123Subdomain(host)) == 0 {
			names = append(names, host)
		}
	}
	if c := av.Spec.Exposure.TLS.CertManager; c != nil && len(c.DNSNames) > 0 {
		for _, h := range c.DNSNames {
			add(string(h))
		}
	} else {
		add(hostOf(s.BaseURL))
		for _, h := range s.ServiceHosts {
			add(h)
		}
		for _, h := range ExposedHosts(av) {
			add(string(h))
		}
		for _, h := range av.Spec.AllowedHosts {
			if u, err := url.Parse("https://" + strings.ToLower(string(h))); err == nil {
				add(u.Hostname())
			}
		}
		if e := NodeEndpoint(av, s, live); e != "" {
			add(hostOf(e))
		}
	}
	slices.Sort(names)
	slices.Sort(addresses)
	return slices.Compact(names), slices.Compact(addresses)
}
