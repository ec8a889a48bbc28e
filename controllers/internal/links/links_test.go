package links_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/links"
)

var start = metav1.NewTime(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))

func appView(from v1alpha1.FromNamespaces) *v1alpha1.AppView {
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: "prod"}}
	av.Spec.HoldLinks.AllowedNamespaces.From = from
	if from == v1alpha1.FromSelector {
		av.Spec.HoldLinks.AllowedNamespaces.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}
	}
	return av
}

func link(namespace, name, did string, age int) v1alpha1.HoldLink {
	l := v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.NewTime(start.Add(time.Duration(age) * time.Second))}}
	l.Spec.AppViewRef = v1alpha1.AppViewReference{Name: "registry", Namespace: "prod"}
	if l.Status.DID = did; did != "" {
		l.Status.LastResolvedTime = &start
	}
	return l
}

func key(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func TestWhoIsAdmitted(t *testing.T) {
	labels := map[string]map[string]string{"a": {"team": "a"}, "b": {"team": "b"}}
	all := []v1alpha1.HoldLink{link("prod", "own", "", 0), link("a", "a", "", 1), link("b", "b", "", 2)}
	for from, want := range map[v1alpha1.FromNamespaces][]bool{
		"": {true, false, false}, v1alpha1.FromSame: {true, false, false},
		v1alpha1.FromAll: {true, true, true}, v1alpha1.FromSelector: {true, true, false},
	} {
		got := links.Decide(appView(from), all, labels)
		for i, l := range all {
			require.Equal(t, want[i], got[links.Key(&l)].Accepted, "from %q: %s", from, l.Name)
		}
	}
}

func TestANamespaceWhoseLabelsAreNotKnownIsNotSelected(t *testing.T) {
	all := []v1alpha1.HoldLink{link("a", "a", "", 1)}
	for name, selector := range map[string]*metav1.LabelSelector{
		"everything":    {},
		"without":       {MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: metav1.LabelSelectorOpDoesNotExist}}},
		"anything else": {MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"y"}}}},
	} {
		av := appView(v1alpha1.FromSelector)
		av.Spec.HoldLinks.AllowedNamespaces.Selector = selector
		for what, labels := range map[string]map[string]map[string]string{"no labels are read": nil, "the namespace is gone": {"b": {}}} {
			require.False(t, links.Decide(av, all, labels)[key("a", "a")].Accepted, "%s, %s", name, what)
		}
		require.True(t, links.Decide(av, all, map[string]map[string]string{"a": nil})[key("a", "a")].Accepted, "%s, a namespace without labels", name)
	}
}

func TestALinkOfAnotherNamespaceMayNotSayWhereSomebodyElsesHoldIs(t *testing.T) {
	av := appView(v1alpha1.FromAll)
	av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:Central.example.com"}
	const plc = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	for name, c := range map[string]struct {
		did, endpoint string
		accepted      bool
	}{
		"the default hold":               {"did:web:central.example.com", "", false},
		"the default hold on its host":   {"did:web:CENTRAL.example.com", "https://central.example.com", false},
		"a hold of its own":              {"did:web:hold.example.com", "", true},
		"a hold of its own on its host":  {"did:web:hold.example.com", "https://HOLD.example.com:443", true},
		"a hold of its own on its port":  {"did:web:hold.example.com%3A8080", "https://hold.example.com:8080", true},
		"a neighbour on the same host":   {"did:web:hold.example.com%3A8080", "https://hold.example.com", false},
		"a hold by plain HTTP":           {"did:web:hold.example.com", "http://hold.example.com", false},
		"its Service":                    {"did:web:hold.tenant.svc.cluster.local", "http://hold.tenant.svc.cluster.local", true},
		"another one's Service":          {"did:web:hold.prod.svc.cluster.local", "http://hold.prod.svc.cluster.local", false},
		"a hold elsewhere":               {"did:web:hold.example.com", "https://evil.example.com", false},
		"a hold behind a user":           {"did:web:hold.example.com", "https://hold.example.com@evil.example.com", false},
		"a hold in the directory":        {plc, "", true},
		"a hold in the directory at one": {plc, "https://evil.example.com", false},
	} {
		foreign, own := link("tenant", "l", "", 0), link("prod", "l", "", 0)
		for _, l := range []*v1alpha1.HoldLink{&foreign, &own} {
			l.Spec.Hold.DID, l.Spec.Endpoint = v1alpha1.DID(c.did), v1alpha1.Origin(c.endpoint)
		}
		got := links.Decide(av, []v1alpha1.HoldLink{foreign}, nil)[key("tenant", "l")]
		require.Equal(t, c.accepted, got.Accepted, "%s: %s", name, got.Message)
		require.True(t, links.Decide(av, []v1alpha1.HoldLink{own}, nil)[key("prod", "l")].Accepted, "%s, in the AppView's own namespace", name)
	}
	for url, accepted := range map[string]bool{
		"http://hold.example.com": false, "http://hold.example.com:443": false, "https://hold.example.com": true,
		"http://hold.tenant.svc": true, "http://hold.tenant.svc.cluster.local:8080": true, "http://hold.prod.svc": false, "http://10.0.0.1": false,
		"https://10.0.0.1": true, "http://127.0.0.1:8080": true, "http://[::1]": true,
	} {
		foreign, own := link("tenant", "l", "", 0), link("prod", "l", "", 0)
		foreign.Spec.Hold.URL, own.Spec.Hold.URL = v1alpha1.Origin(url), v1alpha1.Origin(url)
		require.Equal(t, accepted, links.Decide(av, []v1alpha1.HoldLink{foreign}, nil)[key("tenant", "l")].Accepted, url)
		require.True(t, links.Decide(av, []v1alpha1.HoldLink{own}, nil)[key("prod", "l")].Accepted, "%s, in the AppView's own namespace", url)
	}
	for name, c := range map[string]struct {
		hold     v1alpha1.HoldSource
		endpoint v1alpha1.Origin
		accepted bool
	}{
		"somebody's host":             {hold: v1alpha1.HoldSource{URL: "https://hold.example.com"}},
		"its Service":                 {hold: v1alpha1.HoldSource{URL: "https://hold.tenant.svc"}, accepted: true},
		"its Service, in full":        {hold: v1alpha1.HoldSource{URL: "https://hold.tenant.svc.cluster.local:8443"}, accepted: true},
		"another one's Service":       {hold: v1alpha1.HoldSource{URL: "https://hold.prod.svc"}},
		"its Service, by reference":   {hold: v1alpha1.HoldSource{ServiceRef: &v1alpha1.ServiceReference{Name: "hold"}}, accepted: true},
		"another one's, by reference": {hold: v1alpha1.HoldSource{ServiceRef: &v1alpha1.ServiceReference{Name: "hold", Namespace: "prod"}}},
		"somebody's did:web":          {hold: v1alpha1.HoldSource{DID: "did:web:hold.example.com"}},
		"somebody's, on its host":     {hold: v1alpha1.HoldSource{DID: "did:web:hold.example.com"}, endpoint: "https://hold.example.com"},
		"its Service's did:web":       {hold: v1alpha1.HoldSource{DID: "did:web:hold.tenant.svc%3A8443"}, accepted: true},
		"somebody's in the directory": {hold: v1alpha1.HoldSource{DID: plc}},
	} {
		foreign, own := link("tenant", "l", "", 0), link("prod", "l", "", 0)
		for _, l := range []*v1alpha1.HoldLink{&foreign, &own} {
			l.Spec.Hold, l.Spec.Endpoint = c.hold, c.endpoint
			l.Spec.Trust.CABundleSecretRef = &v1alpha1.CASecretReference{Name: "ca"}
		}
		got := links.Decide(av, []v1alpha1.HoldLink{foreign}, nil)[key("tenant", "l")]
		require.Equal(t, c.accepted, got.Accepted, "%s, by an authority of the link's: %s", name, got.Message)
		require.True(t, links.Decide(av, []v1alpha1.HoldLink{own}, nil)[key("prod", "l")].Accepted, "%s, in the AppView's own namespace", name)
	}
	// A url has the DID of its host, which is known when it was found.
	require.False(t, links.Decide(av, []v1alpha1.HoldLink{link("tenant", "l", "did:web:central.example.com", 0)}, nil)[key("tenant", "l")].Accepted)
}

func TestNobodyIsKeptOutByALinkThatWasNotFoundOrIsOfAnotherNamespace(t *testing.T) {
	mine := link("prod", "mine", "did:web:a", 9)
	unfound := link("prod", "unfound", "did:web:a", 1)
	unfound.Status.LastResolvedTime = nil
	got := links.Decide(appView(v1alpha1.FromAll), []v1alpha1.HoldLink{unfound, link("tenant", "older", "did:web:a", 0), mine}, nil)
	require.True(t, got[key("prod", "mine")].Accepted)
	require.Equal(t, v1alpha1.ReasonDuplicateDID, got[key("prod", "unfound")].Reason)
	require.Equal(t, v1alpha1.ReasonDuplicateDID, got[key("tenant", "older")].Reason)
}

func TestTheOlderOfTwoLinksToOneHoldCounts(t *testing.T) {
	got := links.Decide(appView(""), []v1alpha1.HoldLink{link("prod", "young", "did:web:a", 5), link("prod", "old", "did:web:a", 1)}, nil)
	require.True(t, got[key("prod", "old")].Accepted)
	require.Equal(t, v1alpha1.ReasonDuplicateDID, got[key("prod", "young")].Reason)
}

func TestAnAppViewTakesABoundedNumberOfLinks(t *testing.T) {
	var all []v1alpha1.HoldLink
	for i := range links.Max + 1 {
		all = append(all, link("prod", fmt.Sprintf("l%d", i), fmt.Sprintf("did:web:h%d", i), i))
	}
	got := links.Decide(appView(""), all, nil)
	require.True(t, got[key("prod", fmt.Sprintf("l%d", links.Max-1))].Accepted)
	require.False(t, got[key("prod", fmt.Sprintf("l%d", links.Max))].Accepted)
}

func choose(av *v1alpha1.AppView, lastKnown string, all ...v1alpha1.HoldLink) links.Choice {
	return links.ChooseDefault(av, all, links.Decide(av, all, nil), lastKnown)
}

func TestWhichHoldIsDefault(t *testing.T) {
	one, two := link("prod", "one", "did:web:one", 1), link("prod", "two", "did:web:two", 2)
	unresolved, foreign := link("prod", "new", "", 3), link("elsewhere", "foreign", "did:web:f", 4)
	member := link("prod", "member", "did:web:m", 5)
	member.Spec.Role = v1alpha1.RoleMember
	byRef := func(namespace, name string) *v1alpha1.AppView {
		av := appView("")
		av.Spec.DefaultHold = &v1alpha1.DefaultHold{HoldLinkRef: &v1alpha1.HoldLinkReference{
			Name: v1alpha1.ObjectName(name), Namespace: v1alpha1.NamespaceName(namespace),
		}}
		return av
	}
	byDID := appView("")
	byDID.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:HOLD.example.com:8080"}

	for name, c := range map[string]struct {
		got    links.Choice
		did    string
		reason string
		source v1alpha1.DefaultHoldSource
	}{
		"by DID, in its canonical spelling":    {choose(byDID, "", one, two), "did:web:hold.example.com%3A8080", "Resolved", "Explicit"},
		"by reference":                         {choose(byRef("", "two"), "", one, two), "did:web:two", "Resolved", "Explicit"},
		"by reference to nobody":               {choose(byRef("", "three"), "", one), "", "NoHold", ""},
		"by reference to nobody, was known":    {choose(byRef("", "three"), "did:web:x", one), "did:web:x", "NoHold", "LastKnown"},
		"by reference to one without a DID":    {choose(byRef("", "new"), "", unresolved), "", "DIDUnresolved", ""},
		"by reference to one not admitted":     {choose(byRef("elsewhere", "foreign"), "did:web:f", foreign), "did:web:f", "NotPermitted", "LastKnown"},
		"by reference to a member":             {choose(byRef("", "member"), "", member), "did:web:m", "Resolved", "Explicit"},
		"the only one":                         {choose(appView(""), "", one), "did:web:one", "Resolved", "OnlyLink"},
		"the only one, another was known":      {choose(appView(""), "did:web:x", one), "did:web:one", "Resolved", "OnlyLink"},
		"the only candidate":                   {choose(appView(""), "", one, member, foreign), "did:web:one", "Resolved", "OnlyLink"},
		"the only one has no DID yet":          {choose(appView(""), "", unresolved), "", "DIDUnresolved", ""},
		"only a member":                        {choose(appView(""), "", member), "", "NoHold", ""},
		"nobody":                               {choose(appView(""), ""), "", "NoHold", ""},
		"two":                                  {choose(appView(""), "", one, two), "", "Ambiguous", ""},
		"two, one of them was known":           {choose(appView(""), "did:web:one", one, two), "did:web:one", "UsingLastKnown", "LastKnown"},
		"two, neither of them was known":       {choose(appView(""), "did:web:x", one, two), "did:web:x", "Ambiguous", "LastKnown"},
		"nobody, but the server was told once": {choose(appView(""), "did:web:x"), "did:web:x", "NoHold", "LastKnown"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.did, c.got.DID)
			require.Equal(t, c.reason, c.got.Reason)
			require.Equal(t, c.source, c.got.Source)
			require.NotEmpty(t, c.got.Message)
			require.Equal(t, c.reason == "Resolved" || c.reason == "UsingLastKnown", c.got.Status == metav1.ConditionTrue)
		})
	}
}

// Whatever links come and go in whatever order: a server that was told a default is never told to have none, and the
// order in which the cache lists links decides nothing.
func TestTheDefaultNeverGetsLostAndOrderDecidesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 5).Draw(t, "links")
		var all []v1alpha1.HoldLink
		for i := range n {
			did := rapid.SampledFrom([]string{"", "did:web:a", "did:web:b", "did:web:c"}).Draw(t, "did")
			l := link(rapid.SampledFrom([]string{"prod", "elsewhere"}).Draw(t, "namespace"), fmt.Sprintf("l%d", i), did, rapid.IntRange(0, 3).Draw(t, "age"))
			l.Spec.Role = rapid.SampledFrom([]v1alpha1.Role{"", v1alpha1.RoleMember, v1alpha1.RoleCandidate}).Draw(t, "role")
			all = append(all, l)
		}
		last := rapid.SampledFrom([]string{"did:web:a", "did:web:gone"}).Draw(t, "last")
		av := appView(rapid.SampledFrom([]v1alpha1.FromNamespaces{"", v1alpha1.FromAll}).Draw(t, "from"))

		first := choose(av, last, all...)
		if first.DID == "" {
			t.Fatalf("the default %s was lost: %+v", last, first)
		}
		if second := choose(av, last, rapid.Permutation(all).Draw(t, "order")...); second != first {
			t.Fatalf("order decides: %+v, %+v", first, second)
		}
	})
}
