package links

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/atproto/diddoc"
)

// Choice is which hold is the default of an AppView, and the condition that says so. DID is empty when there is none
// that the server could use.
type Choice struct {
	DID      string
	Source   v1alpha1.DefaultHoldSource
	HoldLink types.NamespacedName // zero: none

	Revoked bool // consent to the hold was taken back: nothing new begins with it

	Status  metav1.ConditionStatus
	Reason  string
	Message string
}

// ChooseDefault decides: what the spec names; else the only accepted HoldLink of role Candidate. While that is not
// clear the server keeps lastKnown, the DID that it was told before: an empty default would be an outage, and the
// HoldLink that came last must never win.
func ChooseDefault(av *v1alpha1.AppView, all []v1alpha1.HoldLink, decided map[types.NamespacedName]Decision, lastKnown string) Choice {
	switch d := av.Spec.DefaultHold; {
	case d != nil && d.DID != "":
		return resolved(diddoc.Canonical(string(d.DID)), v1alpha1.DefaultHoldExplicit, types.NamespacedName{}, "spec.defaultHold.did names it")
	case d != nil && d.HoldLinkRef != nil:
		return explicitLink(av, d.HoldLinkRef, all, decided, lastKnown)
	}
	return onlyCandidate(all, decided, lastKnown)
}

func explicitLink(av *v1alpha1.AppView, ref *v1alpha1.HoldLinkReference, all []v1alpha1.HoldLink,
	decided map[types.NamespacedName]Decision, lastKnown string) Choice {
	key := types.NamespacedName{Namespace: cmp.Or(string(ref.Namespace), av.Namespace), Name: string(ref.Name)}
	i := slices.IndexFunc(all, func(l v1alpha1.HoldLink) bool { return Key(&l) == key })
	if i < 0 {
		return unresolved(v1alpha1.ReasonNoHold, lastKnown, fmt.Sprintf(
			"spec.defaultHold.holdLinkRef names HoldLink %s, and there is none with appViewRef %s: create it, or name another", key, av.Name))
	}
	if d := decided[key]; !d.Accepted {
		return unresolved(v1alpha1.ReasonNotPermitted, lastKnown, fmt.Sprintf(
			"spec.defaultHold.holdLinkRef names HoldLink %s, which is not accepted: %s", key, d.Message))
	}
	return ofLink(&all[i], v1alpha1.DefaultHoldExplicit, "spec.defaultHold.holdLinkRef names it", lastKnown)
}

func onlyCandidate(all []v1alpha1.HoldLink, decided map[types.NamespacedName]Decision, lastKnown string) Choice {
	var candidates []*v1alpha1.HoldLink
	for i := range all {
		if decided[Key(&all[i])].Accepted && all[i].Spec.Role != v1alpha1.RoleMember {
			candidates = append(candidates, &all[i])
		}
	}
	switch len(candidates) {
	case 0:
		return unresolved(v1alpha1.ReasonNoHold, lastKnown,
			"no accepted HoldLink could be the default hold: create one with this AppView in spec.appViewRef, or set spec.defaultHold.did")
	case 1:
		return ofLink(candidates[0], v1alpha1.DefaultHoldOnlyLink, "it is the only accepted HoldLink of role Candidate", lastKnown)
	}
	var keys []string
	for _, c := range candidates {
		keys = append(keys, Key(c).String())
	}
	slices.Sort(keys)
	message := fmt.Sprintf("%d HoldLinks could be the default hold (%s): name one in spec.defaultHold.holdLinkRef",
		len(keys), strings.Join(keys[:min(len(keys), 8)], ", "))
	for _, c := range candidates {
		if lastKnown != "" && c.Status.DID == lastKnown {
			return Choice{DID: lastKnown, Source: v1alpha1.DefaultHoldLastKnown, HoldLink: Key(c),
				Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonUsingLastKnown, Message: "the server keeps " + lastKnown + ". " + message}
		}
	}
	return unresolved(v1alpha1.ReasonAmbiguous, lastKnown, message)
}

func ofLink(link *v1alpha1.HoldLink, source v1alpha1.DefaultHoldSource, why, lastKnown string) Choice {
	if how := meta.FindStatusCondition(link.Status.Conditions, v1alpha1.ConditionResolved); how != nil &&
		how.Reason == v1alpha1.ReasonRefNotPermitted && link.Status.DID == "" {
		c := unresolved(v1alpha1.ReasonNotPermitted, lastKnown, fmt.Sprintf("HoldLink %s: %s", Key(link), how.Message))
		c.HoldLink, c.Revoked = Key(link), true
		if lastKnown != "" {
			c.Message += ", and takes no other change of the spec"
		}
		return c
	}
	if link.Status.DID == "" {
		c := unresolved(v1alpha1.ReasonDIDUnresolved, lastKnown, fmt.Sprintf(
			"the DID of HoldLink %s is not known yet: see its condition Resolved", Key(link)))
		c.HoldLink = Key(link)
		return c
	}
	return resolved(link.Status.DID, source, Key(link), why)
}

func resolved(did string, source v1alpha1.DefaultHoldSource, link types.NamespacedName, why string) Choice {
	return Choice{DID: did, Source: source, HoldLink: link,
		Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonResolved, Message: did + " is the default hold: " + why}
}

func unresolved(reason, lastKnown, message string) Choice {
	c := Choice{Status: metav1.ConditionFalse, Reason: reason, Message: message}
	if lastKnown != "" {
		c.DID, c.Source = lastKnown, v1alpha1.DefaultHoldLastKnown
		c.Message += ". The server keeps " + lastKnown + " until then"
	}
	return c
}
