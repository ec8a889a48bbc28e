package controltest

import (
	"context"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/controllers/keyset"
)

// History is every version of the Secrets of a namespace.
type History struct {
	e        *Env
	mu       sync.Mutex
	versions map[string][]*corev1.Secret // by name
}

// WatchSecrets writes down every version from now on, and makes the servers at the addresses load the keys of each that
// AppView registry signs with.
func (e *Env) WatchSecrets(servers *Servers, podIPs ...string) *History {
	e.Helper()
	h := &History{e: e, versions: map[string][]*corev1.Secret{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	w, err := e.Client.Watch(ctx, &corev1.SecretList{}, client.InNamespace(e.Namespace))
	require.NoError(e, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ev := range w.ResultChan() {
			s, ok := ev.Object.(*corev1.Secret)
			if !ok {
				continue
			}
			h.mu.Lock()
			h.versions[s.Name] = append(h.versions[s.Name], s)
			h.mu.Unlock()
			if set, err := keyset.Parse(s.Data); s.Name == "registry-signing" && err == nil {
				for _, ip := range podIPs {
					servers.Has(ip, set)
				}
			}
		}
	})
	e.Cleanup(func() { cancel(); wg.Wait() })
	return h
}

// Of is every version of a Secret up to the one that is there now.
func (h *History) Of(name string) (out []*corev1.Secret) {
	h.e.Helper()
	now := &corev1.Secret{}
	h.e.Get(name, now)
	h.e.Until("every version of Secret "+name, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		out = slices.Clone(h.versions[name])
		return len(out) > 0 && out[len(out)-1].ResourceVersion == now.ResourceVersion
	})
	return out
}

// RotatedOnce fails the test unless the signing key of the AppView was rotated once, whatever happened meanwhile: no key
// was made twice, none signed that servers were not given before, and none went that had just signed. The other keys are
// what they were at first.
func (h *History) RotatedOnce(appView string) {
	h.e.Helper()
	kids := map[string]bool{}
	for _, s := range h.Of(appView + "-signing-next") {
		kids[h.parse(s).Current.Kid] = true
	}
	var before *keyset.Set
	for _, s := range h.Of(appView + "-signing") {
		set := h.parse(s)
		kids[set.Current.Kid] = true
		if before != nil {
			require.True(h.e, Verifies(set, before.Current.Kid), "tokens that were just signed are refused")
			require.True(h.e, Verifies(before, set.Current.Kid), "a key signs that servers were not given before")
		}
		before = set
	}
	require.Len(h.e, kids, 3, "one key that signed, one that signs, one that will: none was made twice")
	require.Len(h.e, before.Verifying(), 3)
	for _, suffix := range []string{"-oauth", "-did", "-sealing"} {
		all := h.Of(appView + suffix)
		for _, s := range all {
			require.Equal(h.e, all[0].UID, s.UID, s.Name)
			require.Equal(h.e, all[0].Data, s.Data, s.Name)
		}
	}
}

func (h *History) parse(s *corev1.Secret) *keyset.Set {
	h.e.Helper()
	set, err := keyset.Parse(s.Data)
	require.NoError(h.e, err, s.Name)
	return set
}

// Verifies says whether tokens of key kid verify by a set.
func Verifies(s *keyset.Set, kid string) bool {
	return slices.ContainsFunc(s.Verifying(), func(k keyset.Public) bool { return k.Kid == kid })
}
