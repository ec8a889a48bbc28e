package manager

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
)

// Scheme knows Kubernetes' own kinds and ours.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}

// cacheOptions keep in memory what the operator made, not what a cluster is full of. Measured: 3,000 foreign Secrets of
// 20 KiB cost 62 MiB in an unfiltered cache, 0.4 MiB behind a label selector.
func cacheOptions(namespaces []string) cache.Options {
	ours := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy})}
	l := newLean()
	pods := ours
	pods.Transform = l.pod
	o := cache.Options{
		// A read of a kind that nobody watches is a mistake, not a reason to list the whole cluster.
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            l.object,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}:                         ours,
			&corev1.ConfigMap{}:                      ours,
			&corev1.Service{}:                        ours,
			&corev1.ServiceAccount{}:                 ours,
			&appsv1.Deployment{}:                     ours,
			&autoscalingv2.HorizontalPodAutoscaler{}: ours,
			&networkingv1.Ingress{}:                  ours,
			&networkingv1.NetworkPolicy{}:            ours,
			&policyv1.PodDisruptionBudget{}:          ours,
			&corev1.Pod{}:                            pods,
			// An AppView may use a claim of the user's.
			&corev1.PersistentVolumeClaim{}: {Transform: l.claim},
		},
	}
	o.DefaultNamespaces = only(namespaces)
	return o
}

// watchedSecrets is a cache of the users' own Secrets that they labelled to have changes seen at once.
func watchedSecrets(mgr ctrl.Manager, namespaces []string) (cache.Cache, error) {
	return cache.New(mgr.GetConfig(), cache.Options{
		Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(),
		DefaultNamespaces:           only(namespaces),
		DefaultTransform:            cache.TransformStripManagedFields(),
		ReaderFailOnMissingInformer: true,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelWatch: "true"})},
		},
	})
}

// cacheRunnable starts a cache with the manager's own, on a replica that does not lead too: controllers warm up there and
// wait for every cache. What is not known to have a cache is started on the leader only.
type cacheRunnable struct{ cache.Cache }

// GetCache is what the manager knows it by, and waits for.
func (c cacheRunnable) GetCache() cache.Cache { return c.Cache }

// only is a cache of those namespaces; nil: of all.
func only(namespaces []string) map[string]cache.Config {
	if len(namespaces) == 0 {
		return nil
	}
	out := map[string]cache.Config{}
	for _, n := range namespaces {
		out[n] = cache.Config{}
	}
	return out
}
