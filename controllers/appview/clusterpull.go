package appview

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

// pullReport is what condition ClusterPullReady will say: what is wrong first.
type pullReport struct {
	failed          bool
	unknown         bool // nobody could look at all of it
	reason, message string
	done            []string // what is there
}

func (p *pullReport) fail(reason, format string, args ...any) {
	if !p.failed {
		p.failed, p.reason, p.message = true, reason, fmt.Sprintf(format, args...)
	}
}

// clusterPull gives the nodes of the cluster what they need to pull, and takes away what the spec no longer asks for.
func (r *Reconciler) clusterPull(ctx context.Context, sc *scope) error {
	report := &pullReport{}
	var failed error
	for _, step := range []func(context.Context, *scope, *pullReport) error{r.nodeConfig, r.localRegistry, r.pullSecrets} {
		err := step(ctx, sc, report)
		if stalled, ok := outcome.IsStalled(refusal(err, "spec.clusterPull")); ok {
			report.fail(stalled.Reason, "%s", stalled.Error())
		} else if movedOn(err) {
			sc.again(time.Second)
			report.fail(v1alpha1.ReasonPending, "%s", err.Error())
		} else if err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return failed
	}
	switch {
	case sc.appView.Spec.ClusterPull == nil:
		sc.conditions.Drop(v1alpha1.ConditionClusterPullReady)
	case report.failed:
		sc.again(refusedRetry)
		sc.conditions.False(v1alpha1.ConditionClusterPullReady, report.reason, report.message)
	case report.unknown:
	default:
		message := ""
		for _, d := range report.done {
			if message != "" {
				message += "; "
			}
			message += d
		}
		sc.conditions.True(v1alpha1.ConditionClusterPullReady, v1alpha1.ReasonPublished, message)
	}
	return nil
}

// nodeConfig writes the files for container runtimes.
func (r *Reconciler) nodeConfig(ctx context.Context, sc *scope, report *pullReport) error {
	name := render.NodeConfigName(sc.appView.Name)
	if sc.appView.Spec.ClusterPull == nil {
		sc.status.NodeConfigMap = ""
		return r.withdrawNamed(ctx, sc, "ConfigMap", name, r.client.Get, &corev1.ConfigMap{})
	}
	endpoint := render.NodeEndpoint(sc.appView, sc.settings, sc.service)
	switch {
	case sc.certificateUnknown():
		report.unknown = true
		return nil
	case sc.certificate.unfit:
		report.fail(sc.certificate.reason, "nodes are told once the server has its certificate: %s", sc.certificate.message)
		return nil
	case endpoint == "":
		report.fail(v1alpha1.ReasonPending, "Service %s has no address for nodes yet", sc.appView.Name)
		return nil
	case sc.turning():
		report.fail(v1alpha1.ReasonRollingOut, "nodes are told once the server speaks as the spec asks: %s", sc.untilTurned())
		return nil
	}
	err := apply.Apply(ctx, r.applier, render.NodeConfig(sc.appView, sc.settings, endpoint, sc.certificate.authorities), &corev1.ConfigMap{}, sc.mayWrite)
	if _, foreign := outcome.IsStalled(err); foreign {
		sc.status.NodeConfigMap = ""
	}
	if err != nil {
		return err
	}
	sc.status.NodeConfigMap = name
	if u, err := url.Parse(endpoint); err == nil && sc.certificate.leaf != nil && sc.certificate.leaf.VerifyHostname(u.Hostname()) != nil {
		report.fail(v1alpha1.ReasonNameMismatch,
			"nodes pull from %s, and the certificate in Secret %s is not for %s: renew it with that name too; with exposure.tls.certManager, leave dnsNames out",
			endpoint, sc.settings.TLSSecret, u.Hostname())
	}
	report.done = append(report.done, fmt.Sprintf("ConfigMap %s has the files by which nodes pull from %s", name, endpoint))
	return nil
}

// localRegistry says where developers' tools look which registry the cluster has.
func (r *Reconciler) localRegistry(ctx context.Context, sc *scope, report *pullReport) error {
	wanted := sc.appView.Spec.ClusterPull != nil && sc.appView.Spec.ClusterPull.LocalRegistryHosting == v1alpha1.Enabled
	if !r.sees(render.LocalRegistryNamespace) {
		if wanted {
			report.fail(v1alpha1.ReasonClusterModeNeeded,
				"spec.clusterPull.localRegistryHosting needs an operator that watches namespace %s: start it without --watch-namespaces", render.LocalRegistryNamespace)
		}
		return nil
	}
	if !wanted {
		return r.withdrawElsewhere(ctx, sc.appView, "ConfigMap", client.ObjectKey{Namespace: render.LocalRegistryNamespace, Name: render.LocalRegistryName}, &corev1.ConfigMap{})
	}
	err := apply.Apply(ctx, r.applier, render.LocalRegistry(sc.appView, sc.settings), &corev1.ConfigMap{}, sc.mayWriteElsewhere)
	if err != nil {
		return err
	}
	report.done = append(report.done, fmt.Sprintf("ConfigMap %s in namespace %s names the registry", render.LocalRegistryName, render.LocalRegistryNamespace))
	return nil
}

// sees says whether the operator looks at a namespace.
func (r *Reconciler) sees(namespace string) bool {
	return len(r.options.Namespaces) == 0 || slices.Contains(r.options.Namespaces, namespace)
}

// mayWriteElsewhere says why an object in another namespace must not be written.
func (sc *scope) mayWriteElsewhere(kind string, o metav1.Object) error {
	if render.OwnedElsewhere(sc.appView, o) {
		return nil
	}
	return outcome.Stall(v1alpha1.ReasonNotPermitted,
		"%s %s in namespace %s belongs to somebody else: remove it, or do not ask for it here", kind, o.GetName(), o.GetNamespace())
}

// withdrawElsewhere deletes an object of av's in another namespace.
func (r *Reconciler) withdrawElsewhere(ctx context.Context, av *v1alpha1.AppView, kind string, key client.ObjectKey, o client.Object) error {
	switch err := r.client.Get(ctx, key, o); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("reading %s %s: %w", kind, key, err)
	case !render.OwnedElsewhere(av, o) || !o.GetDeletionTimestamp().IsZero():
		return nil
	}
	uid := o.GetUID()
	if err := r.client.Delete(ctx, o, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting %s %s: %w", kind, key, err)
	}
	r.note(av, "Deleted", "deleted %s %s in namespace %s, which nothing asks for any more", kind, key.Name, key.Namespace)
	return nil
}
