package appview

import (
	"context"
	"fmt"
	"slices"
	"sync"
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

// servers are the pods of AppViews, as far as their files are concerned.
type servers struct {
	client    client.Client
	readiness Readiness

	mu     sync.Mutex
	files  map[types.NamespacedName]runtimeFile // by AppView
	spaces map[types.NamespacedName]seenSpace
}

func newServers(c client.Client, readiness Readiness) *servers {
	return &servers{client: c, readiness: readiness, files: map[types.NamespacedName]runtimeFile{}, spaces: map[types.NamespacedName]seenSpace{}}
}

// askAtOnce bounds how many pods are asked at the same time: fifty that do not answer must not outlast a reconcile.
const askAtOnce = 16

// behind names the pods whose server has not loaded the set as it is, as [keyset.Set.Behind] says.
func (s *servers) behind(ctx context.Context, sc *scope, set *keyset.Set) ([]string, error) {
	pods, err := podsOf(ctx, s.client, sc)
	if err != nil {
		return nil, err
	}
	answers, err := s.ask(ctx, slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !runs(&p) }))
	if err != nil {
		return nil, err
	}
	return set.Behind(answers, sc.settings.Rotation, sc.now.Time), nil
}

// ask asks the servers in pods, each what it has loaded; the answers come in the order of the pods.
func (s *servers) ask(ctx context.Context, pods []corev1.Pod) ([]keyset.Server, error) {
	answers := make([]keyset.Server, len(pods))
	var asking errgroup.Group
	asking.SetLimit(askAtOnce)
	for i := range pods {
		p, answer := &pods[i], &answers[i]
		asking.Go(func() (err error) {
			answer.Name = p.Name
			if answer.Ready, err = s.readiness.Ready(ctx, p.Status.PodIP); err != nil {
				log.FromContext(ctx).V(1).Info("a server cannot be asked what it has loaded", "pod", p.Name, "error", err.Error())
				answer.Mute = true
			}
			return nil
		})
	}
	_ = asking.Wait() // none returns an error
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("asking servers what they have loaded: %w", err)
	}
	return answers, nil
}

// podsOf are the pods of the AppView's servers.
func podsOf(ctx context.Context, from client.Reader, sc *scope) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := from.List(ctx, &pods, client.InNamespace(sc.appView.Namespace), client.MatchingLabels(render.Selector(sc.appView.Name))); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	return pods.Items, nil
}

// runs says whether a server in a pod serves clients, or may in a moment: one that is not ready now, because its database
// is away, has the keys that it has when it is ready again, and one that is ending answers what it has accepted. One that
// has not started yet starts with the keys that are there then.
func runs(p *corev1.Pod) bool {
	return p.Status.PodIP != "" && p.Status.Phase == corev1.PodRunning
}

// stays says whether a server runs in a pod that is not to end.
func stays(p *corev1.Pod) bool { return runs(p) && p.DeletionTimestamp.IsZero() }

// poke touches the pods, so that the kubelet brings the changed Secret to them now and not within a minute or two.
// Nothing depends on it.
func (s *servers) poke(ctx context.Context, sc *scope, changed *corev1.Secret) {
	pods, err := podsOf(ctx, s.client, sc)
	if err != nil {
		log.FromContext(ctx).Error(err, "touching pods")
		return
	}
	for i := range pods {
		if runs(&pods[i]) {
			s.touch(ctx, &pods[i], changed.ResourceVersion)
		}
	}
}

// touch pokes one pod, once with the same value.
func (s *servers) touch(ctx context.Context, p *corev1.Pod, value string) {
	if p.Annotations[v1alpha1.AnnotationPoke] == value {
		return
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationPoke, value)
	if err := s.client.Patch(ctx, p, client.RawPatch(types.MergePatchType, patch), apply.FieldOwner); client.IgnoreNotFound(err) != nil {
		log.FromContext(ctx).Info("a pod could not be touched; its kubelet takes the new files to it later", "pod", p.Name, "error", err.Error())
	}
}

// again asks for another look after d; the soonest counts. Zero asks for nothing.
func (sc *scope) again(d time.Duration) {
	if d > 0 && (sc.requeue == 0 || d < sc.requeue) {
		sc.requeue = d
	}
}
