package render

import (
	"cmp"
	"net/url"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/keyset"
)

// SigningCertificate asks cert-manager for a signing key; av's spec must name an issuer. Each renewal has a new key.
func SigningCertificate(av *v1alpha1.AppView, s Settings) *unstructured.Unstructured {
	want := av.Spec.Keys.Signing.CertManager
	key := map[string]any{"algorithm": "ECDSA", "size": int64(256)}
	if s.Rotation.Algorithm == keyset.RS256 {
		key = map[string]any{"algorithm": "RSA", "size": int64(2048)}
	}
	key["encoding"], key["rotationPolicy"] = "PKCS8", "Always"
	spec := map[string]any{
		"secretName":     SigningSourceName(av.Name),
		"secretTemplate": map[string]any{"labels": watchedLabels(av)},
		"privateKey":     key,
		"duration":       Duration(want.Duration, signingInterval).String(),
		"usages":         []any{"digital signature"},
		"issuerRef":      issuer(want.IssuerRef),
	}
	// The certificate carries the key and no name that anybody checks, but an issuer wants one.
	if len(validation.IsDNS1123Subdomain(s.ServiceName)) == 0 {
		spec["dnsNames"] = []any{s.ServiceName}
	} else {
		spec["uris"] = []any{"urn:atcr:service:" + url.PathEscape(s.ServiceName)}
	}
	return object(av, CertificateKind, SigningSourceName(av.Name), spec)
}

// watchedLabels are those of a Secret that cert-manager writes.
func watchedLabels(av *v1alpha1.AppView) map[string]any {
	labels := map[string]any{v1alpha1.LabelWatch: "true"}
	for k, v := range Labels(av) {
		labels[k] = v
	}
	return labels
}

func issuer(ref v1alpha1.IssuerReference) map[string]any {
	return map[string]any{
		"name":  string(ref.Name),
		"kind":  cmp.Or(ref.Kind, "Issuer"),
		"group": cmp.Or(ref.Group, CertificateKind.Group),
	}
}
