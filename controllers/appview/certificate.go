package appview

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// signingSource is where the spec says that the signing key comes from. A Certificate that it no longer asks for is
// taken away; the key that signs stays until the next one does.
func (r *Reconciler) signingSource(ctx context.Context, sc *scope) provided {
	want := sc.appView.Spec.Keys.Signing
	if want.Source == v1alpha1.KeyCertManager && want.CertManager != nil {
		return r.certificate(ctx, sc)
	}
	err := r.withdrawNamed(ctx, sc, optional.Certificate.Kind, render.SigningSourceName(sc.appView.Name), r.optional(optional.Certificate), optional.Certificate.New())
	if err != nil {
		return provided{err: err}
	}
	return r.provided(ctx, sc, want.Source, want.SecretRef, "spec.keys.signing.secretRef")
}

// certificate asks cert-manager for a key, and reads the one that it has issued. Until there is one, or when there can be
// none, the key that signs stays.
func (r *Reconciler) certificate(ctx context.Context, sc *scope) provided {
	name := render.SigningSourceName(sc.appView.Name)
	out := provided{wanted: true, name: name}
	live, err := r.applyOptional(ctx, sc, optional.Certificate, render.SigningCertificate(sc.appView, sc.settings))
	if reason, message := certificateRefused(err, "spec.keys.signing.source is CertManager", "choose another source"); reason != "" {
		sc.keysFailed(false, reason, "%s", message)
		sc.again(refusedRetry)
		return out
	} else if err != nil {
		out.err = err
		return out
	}
	s, again, err := r.userSecrets.Get(ctx, sc.key(name))
	if apierrors.IsNotFound(err) || err == nil && len(s.Data[corev1.TLSPrivateKeyKey]) == 0 {
		sc.again(again)
		sc.keysAwaited(v1alpha1.ReasonCertificateNotReady, "cert-manager has not issued Certificate %s yet%s", name, why(live))
		return out
	} else if err != nil {
		out.err = fmt.Errorf("reading Secret %s: %w", name, err)
		return out
	}
	if err := r.adopt(ctx, sc.appView, s.DeepCopy(), "Secret"); err != nil {
		out.err = err
		return out
	}
	return r.keyOf(ctx, sc, &v1alpha1.KeySecretReference{Name: v1alpha1.ObjectName(name)}, "spec.keys.signing.certManager")
}

// certificateRefused says why a Certificate could not be asked for; empty: err is nil, or one that another try may help.
func certificateRefused(err error, asks, remedy string) (reason, message string) {
	stalled, isStalled := outcome.IsStalled(err)
	switch {
	case errors.Is(err, optional.ErrNotServed):
		return v1alpha1.ReasonCRDNotServed, asks + ", and this cluster does not serve Certificate of cert-manager.io/v1: install cert-manager, or " + remedy
	case errors.Is(err, optional.ErrForbidden), apierrors.IsForbidden(err):
		return v1alpha1.ReasonNotPermitted, "the operator's role does not let it write Certificates: see config/rbac/README.md"
	case isStalled:
		return stalled.Reason, stalled.Error()
	}
	return "", ""
}

// why is what a Certificate's condition Ready says.
func why(certificate *unstructured.Unstructured) string {
	all, _, _ := unstructured.NestedSlice(certificate.Object, "status", "conditions")
	for _, c := range all {
		condition, _ := c.(map[string]any)
		if condition["type"] == "Ready" && condition["status"] != "True" {
			return fmt.Sprintf(" (%v: %v): check its issuer, kubectl describe certificate %s", condition["reason"], condition["message"], certificate.GetName())
		}
	}
	return ": check that its issuer exists and is ready"
}
