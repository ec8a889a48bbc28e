package appview

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/render"
)

// Readiness asks the server in a pod what it has loaded ([names.PathReady] on its debug port).
type Readiness interface {
	Ready(ctx context.Context, podIP string) (names.Ready, error)
}

// servers are the pods of AppViews, as far as keys are concerned.
type servers struct {
	client    client.Client
	readiness Readiness
}

// mute is how many propagation times a pod that cannot be asked holds up a change of keys: a network policy may be in
// the way, and the kubelet has long updated the pod's files by then. A pod that answers with other keys always does.
const mute = 10

// askAtOnce bounds how many pods are asked at the same time: fifty that do not answer must not outlast a reconcile.
const askAtOnce = 16

// loaded says whether every server that runs has loaded the set as it is.
func (s *servers) loaded(ctx context.Context, sc *scope, set *keyset.Set) bool {
	var pods corev1.PodList
	if err := s.client.List(ctx, &pods, client.InNamespace(sc.appView.Namespace), client.MatchingLabels(render.Selector(sc.appView.Name))); err != nil {
		log.FromContext(ctx).Error(err, "listing pods")
		return false
	}
	changed := set.Since
	if set.Published.After(changed) {
		changed = set.Published
	}
	patient := sc.now.Time.Before(changed.Add(mute * sc.settings.Rotation.Propagation))
	var behind atomic.Bool
	var asking errgroup.Group
	asking.SetLimit(askAtOnce)
	for i := range pods.Items {
		p := &pods.Items[i]
		if !runs(p) {
			continue
		}
		asking.Go(func() error {
			got, err := s.readiness.Ready(ctx, p.Status.PodIP)
			switch {
			case err != nil && (patient || ctx.Err() != nil):
				log.FromContext(ctx).V(1).Info("a server cannot be asked which keys it has", "pod", p.Name, "error", err.Error())
				behind.Store(true)
			case err == nil && (got.KeySetHash != set.Hash() || got.SigningKey != set.Current.Kid):
				behind.Store(true)
			}
			return nil
		})
	}
	_ = asking.Wait() // none returns an error
	return !behind.Load()
}

// runs says whether a server in a pod serves clients, or may in a moment: one that is not ready now, because its database
// is away, has the keys that it has when it is ready again, and one that is ending answers what it has accepted. One that
// has not started yet starts with the keys that are there then.
func runs(p *corev1.Pod) bool {
	return p.Status.PodIP != "" && p.Status.Phase == corev1.PodRunning
}

// poke touches the pods, so that the kubelet brings the changed Secret to them now and not within a minute or two.
// Nothing depends on it.
func (s *servers) poke(ctx context.Context, sc *scope, changed *corev1.Secret) {
	var pods corev1.PodList
	if err := s.client.List(ctx, &pods, client.InNamespace(sc.appView.Namespace), client.MatchingLabels(render.Selector(sc.appView.Name))); err != nil {
		log.FromContext(ctx).Error(err, "listing pods")
		return
	}
	for _, p := range pods.Items {
		if !runs(&p) {
			continue
		}
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationPoke, changed.ResourceVersion)
		if err := s.client.Patch(ctx, &p, client.RawPatch(types.MergePatchType, patch), apply.FieldOwner); client.IgnoreNotFound(err) != nil {
			log.FromContext(ctx).Info("a pod could not be touched; its kubelet takes the new keys to it later", "pod", p.Name, "error", err.Error())
		}
	}
}

// again asks for another look after d; the soonest counts. Zero asks for nothing.
func (sc *scope) again(d time.Duration) {
	if d > 0 && (sc.requeue == 0 || d < sc.requeue) {
		sc.requeue = d
	}
}
