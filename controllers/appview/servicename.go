package appview

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

// recallServiceName takes the service name that the first tokens had, unless the spec says one: clients and tokens name the
// service, and so does the certificate of the key.
func (r *Reconciler) recallServiceName(ctx context.Context, sc *scope) error {
	s := &corev1.Secret{}
	if err := r.client.Get(ctx, sc.key(render.SigningSecretName(sc.appView.Name)), s); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading Secret %s: %w", render.SigningSecretName(sc.appView.Name), err)
	}
	if first := s.Annotations[v1alpha1.AnnotationServiceName]; first != "" && sc.owned(s) && sc.appView.Spec.ServiceName == "" {
		sc.settings.ServiceName = first
	}
	return nil
}

// keepServiceName writes the service name on a signing Secret that has none: a former operator made it.
func (r *Reconciler) keepServiceName(ctx context.Context, sc *scope, signing *corev1.Secret) error {
	if signing.Annotations[v1alpha1.AnnotationServiceName] != "" {
		return nil
	}
	after := signing.DeepCopy()
	setAnnotation(after, v1alpha1.AnnotationServiceName, sc.settings.ServiceName)
	if err := r.client.Patch(ctx, after, client.MergeFrom(signing), apply.FieldOwner); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("writing the service name on Secret %s: %w", signing.Name, err)
	}
	return nil
}
