package appview

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/render"
)

// runtimeFile is what this operator knows of the runtime file of an AppView. It is not kept: after a restart the servers
// are asked once more.
type runtimeFile struct {
	hash   string
	since  time.Time // when it was first seen
	loaded bool      // every server runs with it
}

// runtime writes the file that the server reloads by itself. Without a default hold there is nothing to start it with.
func (r *Reconciler) runtime(ctx context.Context, sc *scope) error {
	if sc.defaultHold == nil {
		sc.status.DefaultHold, sc.status.Links = nil, nil
		return nil
	}
	file, err := render.RuntimeConfigMap(sc.appView, render.Runtime(sc.appView, sc.settings, sc.defaultHold.DID, sc.holds, sc.service))
	if err != nil {
		return err
	}
	if err := apply.Apply(ctx, r.applier, file, &corev1.ConfigMap{}, sc.mayWrite); err != nil {
		return err
	}
	sc.status.DefaultHold = sc.defaultHold
	sc.runtimeHash = names.RuntimeHash([]byte(file.Data[names.FileRuntime]))
	return nil
}

// loading is how far servers are with the runtime file.
type loading struct {
	running bool     // some serve
	behind  []string // pods whose servers run with another
	mute    bool     // one cannot be asked, and its kubelet may not have brought the file yet
}

// told says whether every server runs with the file.
func (l loading) told() bool { return l.running && len(l.behind) == 0 && !l.mute }

// loading looks how far the servers in pods are. They are asked until all run with the file; after that no more, since a
// server that starts has it as it is.
func (r *Reconciler) loading(ctx context.Context, sc *scope, pods []corev1.Pod) (loading, error) {
	key := types.NamespacedName{Namespace: sc.appView.Namespace, Name: sc.appView.Name}
	running := slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return !stays(&p) })
	out := loading{running: len(running) > 0}
	sc.file = r.servers.file(key, sc.runtimeHash, sc.now.Time)
	if sc.file.loaded || !out.running {
		return out, nil
	}
	answers, err := r.servers.ask(ctx, running)
	if err != nil {
		return out, err
	}
	age := sc.now.Sub(sc.file.since)
	for i, a := range answers {
		switch {
		case a.Mute:
			out.mute = out.mute || age < sc.settings.Rotation.Propagation
		case a.Ready.RuntimeHash != sc.runtimeHash:
			out.behind = append(out.behind, a.Name)
			r.servers.touch(ctx, &running[i], sc.runtimeHash[:16])
		}
	}
	slices.Sort(out.behind)
	if out.told() {
		r.servers.loaded(key, sc.runtimeHash)
	} else {
		sc.again(min(max(age, askFirst), askMost))
	}
	return out, nil
}

// Servers that do not run with a file are asked again when as much time has passed as since it changed, between these.
const (
	askFirst = 2 * time.Second
	askMost  = time.Minute
)

// lateAfter is how many propagation times a server may take to load the runtime file.
const lateAfter = 2

// newest is a, unless servers have yet to load the runtime file: those of a changed spec before it is Ready, and any that
// do not in time. A hold that comes or goes leaves the registry Ready meanwhile.
func (sc *scope) newest(a available, behind []string) available {
	if !a.ok || len(behind) == 0 {
		return a
	}
	before := meta.FindStatusCondition(sc.appView.Status.Conditions, v1alpha1.ConditionAvailable)
	switch {
	case sc.now.Sub(sc.file.since) >= lateAfter*sc.settings.Rotation.Propagation:
		return available{reason: v1alpha1.ReasonServersBehind, message: fmt.Sprintf(
			"pods %s run with an earlier runtime file: see their logs; a pod that is deleted comes back with the newest", someOf(behind))}
	case before == nil || before.Status != metav1.ConditionTrue || before.ObservedGeneration != sc.appView.Generation:
		return available{reason: v1alpha1.ReasonRollingOut, message: "the newest runtime file is on its way to pods " + someOf(behind)}
	}
	return a
}

// tellLinks says which holds the servers were told. Until all of them run with the newest file, it is what they were told
// before.
func (sc *scope) tellLinks(told bool) {
	if told {
		sc.status.Links = sc.links
		return
	}
	for i := range sc.status.Links {
		have := &sc.status.Links[i]
		for _, l := range sc.links {
			if l.Namespace == have.Namespace && l.Name == have.Name && l.DID == have.DID {
				have.Health, have.Since = l.Health, l.Since
			}
		}
	}
}

// file is what is known of an AppView's runtime file with that hash.
func (s *servers) file(appView types.NamespacedName, hash string, now time.Time) runtimeFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[appView]
	if f.hash != hash {
		f = runtimeFile{hash: hash, since: now}
		s.files[appView] = f
	}
	return f
}

// loaded notes that every server of an AppView runs with the file of that hash.
func (s *servers) loaded(appView types.NamespacedName, hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.files[appView]; f.hash == hash {
		f.loaded = true
		s.files[appView] = f
	}
}

// forget drops what is known of an AppView that is gone.
func (s *servers) forget(appView types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, appView)
	delete(s.spaces, appView)
}
