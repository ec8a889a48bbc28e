package appview

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

// service makes the ServiceAccount and the Service; the cluster gives the Service the addresses that the runtime file
// needs. While the server's certificate cannot be used, a Service that is there stays as it is: the pods behind it may
// speak HTTP.
func (r *Reconciler) service(ctx context.Context, sc *scope) error {
	if err := apply.Apply(ctx, r.applier, render.ServiceAccount(sc.appView), &corev1.ServiceAccount{}, sc.mayWrite); err != nil {
		return err
	}
	sc.service = &corev1.Service{}
	if fit, err := r.certificates(ctx, sc); err != nil {
		return err
	} else if fit {
		if err := r.applyService(ctx, sc); err != nil {
			return err
		}
	}
	sc.status.Endpoints = render.Endpoints(sc.settings, sc.service)
	return nil
}

func (r *Reconciler) applyService(ctx context.Context, sc *scope) error {
	return apply.Apply(ctx, r.applier, render.Service(sc.appView, sc.settings), sc.service, sc.mayWrite)
}

// deployment runs the server once it has its keys and a default hold. While either is missing, when the consent to the
// hold was taken back, and while another image is tried, what runs is left alone.
func (r *Reconciler) deployment(ctx context.Context, sc *scope) error {
	live := &appsv1.Deployment{}
	err := r.client.Get(ctx, sc.key(sc.appView.Name), live)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading Deployment %s: %w", sc.appView.Name, err)
	}
	if sc.consumed != "" && sc.defaultHold != nil && !sc.holdRevoked {
		if stays, err := r.tryImage(ctx, sc, live); err != nil {
			return err
		} else if !stays {
			if err := apply.Apply(ctx, r.applier, render.Deployment(sc.appView, sc.settings, sc.consumed), live, sc.mayWrite); err != nil {
				return err
			}
		}
	} else if err != nil {
		return nil
	}
	if image := imageOf(live); image != "" {
		sc.status.Image, sc.status.Version = image, render.Version(image)
	}
	sc.deployment = live
	sc.status.Selector = labels.Set(render.Selector(sc.appView.Name)).String()
	return nil
}
