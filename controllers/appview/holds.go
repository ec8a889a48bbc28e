package appview

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/links"
	"atcr.io/operator/controllers/internal/trust"
	"atcr.io/operator/controllers/render"
)

// holds decides which HoldLinks are admitted, which hold is the default, and what the server is told of them.
func (r *Reconciler) holds(ctx context.Context, sc *scope) error {
	key := types.NamespacedName{Namespace: sc.appView.Namespace, Name: sc.appView.Name}
	all, err := links.Of(ctx, r.client, key)
	if err != nil {
		return err
	}
	labels, err := r.namespaceLabels(ctx, sc.appView, all)
	if err != nil {
		return err
	}
	lastKnown, err := r.lastKnownDefault(ctx, sc)
	if err != nil {
		return err
	}
	decided := links.Decide(sc.appView, all, labels)
	choice := links.ChooseDefault(sc.appView, all, decided, lastKnown)

	if choice.DID != "" {
		sc.defaultHold = &v1alpha1.DefaultHoldStatus{DID: choice.DID, Source: choice.Source}
		if choice.HoldLink.Name != "" {
			sc.defaultHold.HoldLink = choice.HoldLink.String()
		}
	}
	if choice.Status == metav1.ConditionTrue {
		sc.conditions.True(v1alpha1.ConditionDefaultHoldResolved, choice.Reason, choice.Message)
	} else {
		sc.conditions.False(v1alpha1.ConditionDefaultHoldResolved, choice.Reason, choice.Message)
	}
	sc.holdRevoked = choice.Revoked
	bundles, err := r.bundles(ctx, sc, all, decided)
	if err != nil {
		return err
	}
	sc.tell(all, decided, bundles)
	return nil
}

// bundles are the certificates that the servers trust for the holds of admitted links. What cannot be read now stays as
// the servers have it: the link says why.
func (r *Reconciler) bundles(ctx context.Context, sc *scope, all []v1alpha1.HoldLink, decided map[types.NamespacedName]links.Decision) (map[types.NamespacedName]string, error) {
	out := map[types.NamespacedName]string{}
	for i := range all {
		link := &all[i]
		if link.Spec.Trust.CABundleSecretRef == nil || !decided[links.Key(link)].Accepted {
			continue
		}
		bundle, again, err := trust.Bundle(ctx, r.userSecrets, link)
		sc.again(again)
		var invalid trust.Invalid
		switch {
		case errors.As(err, &invalid):
			if sc.told == nil {
				continue
			}
			for _, h := range sc.told.Holds {
				if h.DID == link.Status.DID {
					out[links.Key(link)] = sc.told.CABundles[h.CABundle]
				}
			}
		case err != nil:
			return nil, err
		default:
			out[links.Key(link)] = bundle
		}
	}
	return out, nil
}

// defaultDID is the default hold; empty: none.
func (sc *scope) defaultDID() string {
	if sc.defaultHold == nil {
		return ""
	}
	return sc.defaultHold.DID
}

// tell collects what the server is told of the admitted links, and sums up their health.
func (sc *scope) tell(all []v1alpha1.HoldLink, decided map[types.NamespacedName]links.Decision, bundles map[types.NamespacedName]string) {
	slices.SortFunc(all, func(a, b v1alpha1.HoldLink) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	counts := v1alpha1.HoldCounts{Linked: int32(len(all))}
	var health healthSummary
	for i := range all {
		link := &all[i]
		if !decided[links.Key(link)].Accepted {
			continue
		}
		counts.Accepted++
		if link.Status.Endpoint != "" {
			sc.holdEndpoints = append(sc.holdEndpoints, link.Status.Endpoint)
		}
		state := cmp.Or(link.Status.Health.State, v1alpha1.Unknown)
		if state == v1alpha1.Healthy {
			counts.Healthy++
		}
		health.add(link, state, link.Status.DID != "" && link.Status.DID == sc.defaultDID())
		if link.Status.DID == "" {
			continue
		}
		sc.links = append(sc.links, v1alpha1.LinkStatus{
			Namespace: link.Namespace, Name: link.Name, DID: link.Status.DID, Health: state, Since: link.Status.Health.Since,
			ObservedGeneration: max(link.Status.ObservedGeneration, 0),
		})
		hold := names.Hold{DID: link.Status.DID, Download: names.Download(link.Status.Download)}
		// Without an endpoint of its own, the server finds it in the DID document, by its own rules.
		if link.Spec.Endpoint != "" || link.Spec.Hold.DID == "" {
			hold.Endpoint = link.Status.Endpoint
		}
		hold.CABundle = bundles[links.Key(link)]
		// Of two links whose hold neither has found yet, one is enough.
		if at := slices.IndexFunc(sc.holds, func(h names.Hold) bool { return h.DID == hold.DID }); at < 0 {
			sc.holds = append(sc.holds, hold)
		} else if sc.holds[at].Endpoint == "" && hold.Endpoint != "" {
			sc.holds[at] = hold
		}
	}
	sc.status.Holds = counts
	sc.status.HoldSummary = fmt.Sprintf("%d/%d", counts.Healthy, counts.Accepted)
	health.report(sc)
}

// healthSummary is what HoldsHealthy says.
type healthSummary struct {
	total, unknown int
	ill            []string
	defaultIll     string
}

func (h *healthSummary) add(link *v1alpha1.HoldLink, state v1alpha1.HealthState, isDefault bool) {
	h.total++
	switch state {
	case v1alpha1.Unknown:
		h.unknown++
	case v1alpha1.Unhealthy:
		name := link.Namespace + "/" + link.Name
		h.ill = append(h.ill, name)
		if isDefault {
			h.defaultIll = name
		}
	}
}

func (h *healthSummary) report(sc *scope) {
	const remedy = "see the HoldLink's condition Healthy; manifests are still served, blobs of that hold are not"
	c := sc.conditions
	switch {
	case h.defaultIll != "":
		c.False(v1alpha1.ConditionHoldsHealthy, v1alpha1.ReasonDefaultUnhealthy, fmt.Sprintf("the default hold, HoldLink %s, does not answer: %s", h.defaultIll, remedy))
	case len(h.ill) > 0:
		c.False(v1alpha1.ConditionHoldsHealthy, v1alpha1.ReasonSomeUnhealthy, fmt.Sprintf("%d of %d holds do not answer, the first is HoldLink %s: %s", len(h.ill), h.total, h.ill[0], remedy))
	case h.total == 0:
		c.Unknown(v1alpha1.ConditionHoldsHealthy, v1alpha1.ReasonUnknown, "there is no accepted HoldLink whose health could be watched")
	case h.unknown > 0:
		c.Unknown(v1alpha1.ConditionHoldsHealthy, v1alpha1.ReasonUnknown, fmt.Sprintf("%d of %d holds were not found or not asked yet: see the HoldLinks' conditions Resolved and Healthy", h.unknown, h.total))
	default:
		c.True(v1alpha1.ConditionHoldsHealthy, v1alpha1.ReasonAllHealthy, fmt.Sprintf("%d of %d holds answer", h.total, h.total))
	}
}

// lastKnownDefault is what the server was told before, from the runtime file itself, since status may be lost; without
// the file, from status.
func (r *Reconciler) lastKnownDefault(ctx context.Context, sc *scope) (string, error) {
	cm := &corev1.ConfigMap{}
	if err := r.client.Get(ctx, sc.key(render.RuntimeName(sc.appView.Name)), cm); client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("reading the runtime file: %w", err)
	}
	if known := render.KnownRuntime(cm); known != nil && sc.owned(cm) {
		sc.told = known
		return known.DefaultHoldDID, nil
	}
	if d := sc.status.DefaultHold; d != nil {
		return d.DID, nil
	}
	return "", nil
}

// namespaceLabels are the labels of the links' namespaces, when the AppView selects by them.
func (r *Reconciler) namespaceLabels(ctx context.Context, av *v1alpha1.AppView, all []v1alpha1.HoldLink) (map[string]map[string]string, error) {
	if !links.NeedsLabels(av) || len(r.options.Namespaces) > 0 {
		return nil, nil
	}
	return links.NamespaceLabels(ctx, r.client, all)
}
