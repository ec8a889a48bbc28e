package appview

import (
	"cmp"
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// account makes the ServiceAccount that the pods run as.
func (r *Reconciler) account(ctx context.Context, sc *scope) error {
	return apply.Apply(ctx, r.applier, render.ServiceAccount(sc.appView), &corev1.ServiceAccount{}, sc.mayWrite)
}

// service makes the Service; the cluster gives it the addresses that the runtime file needs. While the server's certificate
// cannot be used, a Service that is there stays as it is. So does one when the cluster refuses the change.
func (r *Reconciler) service(ctx context.Context, sc *scope) error {
	sc.service = &corev1.Service{}
	if err := r.client.Get(ctx, sc.key(sc.appView.Name), sc.service); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading Service %s: %w", sc.appView.Name, err)
	}
	fit, err := r.certificates(ctx, sc)
	if err == nil && fit {
		err = r.applyService(ctx, sc)
	}
	switch {
	case err == nil:
	case sc.owned(sc.service):
		sc.fail("make the service", err)
	default:
		return err
	}
	sc.status.Endpoints = render.Endpoints(sc.settings, sc.service)
	return nil
}

func (r *Reconciler) applyService(ctx context.Context, sc *scope) error {
	port, err := r.portName(ctx, sc)
	if err != nil {
		return err
	}
	return apply.Apply(ctx, r.applier, render.Service(sc.appView, sc.settings, port), sc.service, sc.mayWrite)
}

// portName is that of the port by which the Service finds pods. It follows the Deployment, which may stay as it is when
// the spec asks for HTTPS, or no longer does; and one that rolls out once a new pod is ready, or no old one is left.
func (r *Reconciler) portName(ctx context.Context, sc *scope) (string, error) {
	d, err := r.running(ctx, sc)
	if err != nil || d == nil {
		return render.PortName(sc.settings), err
	}
	has, pods := "", cmp.Or(render.PodPortName(d), render.PortName(sc.settings))
	if sc.owned(sc.service) {
		has = render.ServicePortName(sc.service)
	}
	old := d.Status.Replicas - d.Status.UpdatedReplicas
	if seen := d.Status.ObservedGeneration >= d.Generation; has != "" && (!seen || old > 0 && d.Status.ReadyReplicas <= old) {
		return has, nil
	}
	return pods, nil
}

// turning says that the Service does not yet lead to a server that speaks as the spec asks.
func (sc *scope) turning() bool {
	return render.ServicePortName(sc.service) != render.PortName(sc.settings)
}

// untilTurned is what is said meanwhile.
func (sc *scope) untilTurned() string {
	return fmt.Sprintf("Service %s leads to port %s of the pods until one with port %s is rolled out",
		sc.appView.Name, render.ServicePortName(sc.service), render.PortName(sc.settings))
}

// deployment runs the server once it has its keys and a default hold. While either is missing, when the consent to the
// hold was taken back, when a step before has failed, and while another image is tried, what runs is left alone.
func (r *Reconciler) deployment(ctx context.Context, sc *scope) error {
	if sc.failed || sc.consumed == "" || sc.defaultHold == nil || sc.holdRevoked {
		return nil
	}
	live := &appsv1.Deployment{}
	if err := r.client.Get(ctx, sc.key(sc.appView.Name), live); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading Deployment %s: %w", sc.appView.Name, err)
	}
	if stays, err := r.tryImage(ctx, sc, live); err != nil || stays {
		return err
	}
	if err := apply.Apply(ctx, r.applier, render.Deployment(sc.appView, sc.settings, sc.consumed), live, sc.mayWrite); err != nil {
		return err
	}
	sc.deployment = live
	return nil
}

// refusal puts into words that the cluster does not let the operator write, or delete, what a field asks for.
func refusal(err error, field string) error {
	if _, stalled := outcome.IsStalled(err); stalled || !refused(err) || apierrors.IsNotFound(err) {
		return err
	}
	return outcome.Stall(v1alpha1.ReasonNotPermitted,
		"%w: the operator's role, a quota or a policy of the cluster is in the way of %s; see config/rbac/README.md, or change the field", err, field)
}
