package holdlink

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/controllers/internal/links"
)

// resolve finds the hold's DID and endpoint. What was found once is kept while the hold only does not answer: a hold
// that is down, or whose proxy answers with a page of its own, must not lose its AppView. It is dropped when its document
// turns out to be another's.
func (r *Reconciler) resolve(ctx context.Context, sc *scope) error {
	spec := &sc.link.Spec
	sc.status.Download = cmp.Or(spec.Download, defaultDownload(spec))
	from := resolvedFrom(sc.link)
	if sc.status.ResolvedFrom != from { // the spec names another hold
		sc.status.DID, sc.status.Endpoint, sc.status.LastResolvedTime = "", "", nil
		sc.status.ResolvedFrom = from
	}
	if spec.Hold.DID != "" { // known without asking anybody
		sc.status.DID = diddoc.Canonical(string(spec.Hold.DID))
		// The AppView's own namespace is trusted with an endpoint; of another, the hold confirms it first.
		if spec.Endpoint != "" && links.AppViewOf(sc.link).Namespace == sc.link.Namespace {
			sc.status.Endpoint = string(spec.Endpoint)
		}
	}
	if !sc.callable {
		sc.conditions.Unknown(v1alpha1.ConditionResolved, v1alpha1.ReasonUnknown, "the hold is not looked up before the AppView admits this HoldLink")
		return nil
	}

	if sc.refused != (refusal{}) {
		sc.stalled = true
		if sc.refused.denied { // a grant that is taken away takes the hold with it, and one that cannot be read does not
			sc.status.DID, sc.status.Endpoint, sc.status.LastResolvedTime = "", "", nil
		}
		r.resolver.Forget(links.Key(sc.link))
		sc.conditions.False(v1alpha1.ConditionResolved, sc.refused.reason, sc.refused.message)
		return nil
	}
	found, again := r.resolver.Resolve(ctx, links.Key(sc.link), from, sc.appView, sc.link, sc.access)
	sc.lookAgain(again)
	before := sc.conditions.Get(v1alpha1.ConditionResolved)
	known := sc.status.LastResolvedTime != nil && before != nil && before.Status == metav1.ConditionTrue
	switch {
	case found.Reason == "":
		if sc.status.LastResolvedTime == nil || sc.status.DID != found.DID || sc.status.Endpoint != found.Endpoint {
			sc.status.DID, sc.status.Endpoint, sc.status.LastResolvedTime = found.DID, found.Endpoint, &sc.now
		}
		sc.conditions.True(v1alpha1.ConditionResolved, v1alpha1.ReasonResolved, found.DID+" at "+found.Endpoint)
	case known && (found.Passing || found.Reason != v1alpha1.ReasonDIDMismatch):
		sc.conditions.True(v1alpha1.ConditionResolved, v1alpha1.ReasonResolved, before.Message) // it will answer again
	default:
		if !found.Passing {
			sc.status.DID, sc.status.Endpoint, sc.status.LastResolvedTime = "", "", nil
			sc.stalled = true
		}
		sc.conditions.False(v1alpha1.ConditionResolved, found.Reason, found.Message)
	}
	return nil
}

// defaultDownload: clients outside the cluster cannot reach a Service in it.
func defaultDownload(spec *v1alpha1.HoldLinkSpec) v1alpha1.Download {
	if spec.Hold.ServiceRef != nil {
		return v1alpha1.DownloadProxy
	}
	return v1alpha1.DownloadRedirect
}

// resolvedFrom is what DID and endpoint depend on, as one string.
func resolvedFrom(link *v1alpha1.HoldLink) string {
	spec := &link.Spec
	switch h := spec.Hold; {
	case h.URL != "":
		return "url " + string(h.URL)
	case h.ServiceRef != nil:
		s := fmt.Sprintf("service %s://%s", cmp.Or(h.ServiceRef.Scheme, "http"), h.ServiceRef.Name)
		if n := serviceNamespace(link); n != link.Namespace {
			s += "." + n
		}
		if h.ServiceRef.Port != 0 {
			s += fmt.Sprintf(":%d", h.ServiceRef.Port)
		}
		return s
	case spec.Endpoint != "":
		return "did " + string(h.DID) + " at " + strings.ToLower(string(spec.Endpoint))
	}
	return "did " + string(spec.Hold.DID)
}
