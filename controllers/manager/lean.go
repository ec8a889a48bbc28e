package manager

import (
	"hash/maphash"
	"maps"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
)

// lean makes what the cache keeps small. Objects in the cache are never written to, so those that say the same may share
// it: the labels of all that belongs to one AppView, words that everything has, such as names of variables, and parts
// that every AppView's objects have, such as probes. What it saves is in test/bench/operator.
type lean struct {
	seed maphash.Seed

	mu    sync.Mutex
	words map[string]string
	sets  map[uint64]map[string]string // by a hash of their content
	parts parts
}

const (
	// maxWords is when no more are kept. Common words come with the first objects.
	maxWords = 4096
	// maxSets is when the sets are begun anew, so that those of objects that are long gone go too.
	maxSets = 16384
)

func newLean() *lean {
	return &lean{seed: maphash.MakeSeed(), words: map[string]string{}, sets: map[uint64]map[string]string{}}
}

// object is a cache's transform.
func (l *lean) object(o any) (any, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return o, nil // what says that an object is gone
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m.SetManagedFields(nil)
	m.SetNamespace(l.word(m.GetNamespace()))
	m.SetLabels(l.set(m.GetLabels()))
	owners := m.GetOwnerReferences()
	for i := range owners {
		owners[i].APIVersion, owners[i].Kind = l.word(owners[i].APIVersion), l.word(owners[i].Kind)
	}
	switch o := o.(type) {
	case *v1alpha1.AppView:
		o.Status.Conditions, o.Status.Links = l.conditions(o.Status.Conditions), tight(o.Status.Links)
	case *v1alpha1.HoldLink:
		o.Status.Conditions = l.conditions(o.Status.Conditions)
	case *corev1.Service:
		o.Spec.Selector = l.set(o.Spec.Selector)
		l.parts.service(&o.Spec)
	case *corev1.PersistentVolumeClaim:
		l.parts.claim(&o.Spec)
	case *appsv1.Deployment:
		if o.Spec.Selector != nil {
			o.Spec.Selector.MatchLabels = l.set(o.Spec.Selector.MatchLabels)
		}
		l.template(&o.Spec.Template)
	}
	return o, nil
}

// set is the one of these labels.
func (l *lean) set(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	var content uint64
	for k, v := range labels {
		content += maphash.Comparable(l.seed, [2]string{k, v})
	}
	if kept, ok := l.sets[content]; ok && maps.Equal(kept, labels) {
		return kept
	}
	if len(l.sets) >= maxSets {
		clear(l.sets)
	}
	kept := make(map[string]string, len(labels))
	for k, v := range labels {
		kept[l.word(k)] = l.word(v)
	}
	l.sets[content] = kept
	return kept
}

// word is the one of this spelling.
func (l *lean) word(s string) string {
	if kept, ok := l.words[s]; ok {
		return kept
	}
	if len(l.words) < maxWords {
		l.words[s] = s
	}
	return s
}

// tight has no room for more, which decoders leave.
func tight[T any](s []T) []T {
	if cap(s) == len(s) {
		return s
	}
	return append(make([]T, 0, len(s)), s...)
}

func (l *lean) conditions(all []metav1.Condition) []metav1.Condition {
	for i := range all {
		c := &all[i]
		c.Type, c.Status = l.word(c.Type), metav1.ConditionStatus(l.word(string(c.Status)))
		c.Reason, c.Message = l.word(c.Reason), l.word(c.Message)
	}
	return tight(all)
}

func (l *lean) template(t *corev1.PodTemplateSpec) {
	t.Labels = l.set(t.Labels)
	for i := range t.Spec.Containers {
		c := &t.Spec.Containers[i]
		c.Image, c.Env = l.word(c.Image), tight(c.Env)
		for j := range c.Env {
			c.Env[j].Name, c.Env[j].Value = l.word(c.Env[j].Name), l.word(c.Env[j].Value)
		}
	}
	t.Spec.Volumes = tight(t.Spec.Volumes)
	for i := range t.Spec.Volumes {
		t.Spec.Volumes[i].Name = l.word(t.Spec.Volumes[i].Name)
	}
	l.parts.pod(&t.Spec)
}

// pod keeps of a pod what says where it runs, or why it does not.
func (l *lean) pod(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	var kept map[string]string
	if poke, ok := p.Annotations[v1alpha1.AnnotationPoke]; ok {
		kept = map[string]string{v1alpha1.AnnotationPoke: poke}
	}
	return l.object(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion, Labels: p.Labels,
			CreationTimestamp: p.CreationTimestamp, DeletionTimestamp: p.DeletionTimestamp, Annotations: kept,
		},
		Spec: corev1.PodSpec{NodeName: p.Spec.NodeName},
		Status: corev1.PodStatus{
			Phase:                 p.Status.Phase,
			Reason:                p.Status.Reason,
			PodIP:                 p.Status.PodIP,
			Conditions:            p.Status.Conditions,
			InitContainerStatuses: p.Status.InitContainerStatuses,
			ContainerStatuses:     p.Status.ContainerStatuses,
		},
	})
}

// claim keeps all of the operator's claims, and of a user's, which an AppView may name, whether it has its volume.
func (l *lean) claim(o any) (any, error) {
	c, ok := o.(*corev1.PersistentVolumeClaim)
	if !ok || c.Labels[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy {
		return l.object(o)
	}
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: c.Name, Namespace: c.Namespace, UID: c.UID, ResourceVersion: c.ResourceVersion, DeletionTimestamp: c.DeletionTimestamp,
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: c.Status.Phase},
	}, nil
}
