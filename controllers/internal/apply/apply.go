// Package apply writes objects by server-side apply, and only when something would change.
//
// An object carries the hash of what was last applied to it. When the hash is what is wanted now, and the live object
// from the cache still says everything that was applied, no request is made. This needs no memory, so that a restart
// of the operator writes nothing either; what is remembered only spares comparing the same version again.
package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/outcome"
)

// FieldOwner is the operator's name in managedFields.
const FieldOwner = client.FieldOwner("atcr-operator")

// Applier applies objects.
type Applier struct {
	client  client.Client // reads from the cache
	live    client.Reader // reads from the API server
	applied *prometheus.CounterVec
	same    *memory
}

// New returns an Applier that counts its work in registry.
func New(c client.Client, live client.Reader, registry prometheus.Registerer) (*Applier, error) {
	a := &Applier{client: c, live: live, same: newMemory(), applied: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "atcr_apply_total",
		Help: "Objects considered for server-side apply, by kind and result (applied or skipped).",
	}, []string{"kind", "result"})}
	if err := registry.Register(a.applied); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return a, nil
}

// Configuration is a generated apply configuration of type T.
type Configuration[T any] interface {
	runtime.ApplyConfiguration
	WithAnnotations(map[string]string) T
	GetKind() *string
	GetName() *string
	GetNamespace() *string
}

// Apply makes the cluster's object say what want says. live is an empty object of the kind; afterwards it is the object
// as the API server answered, or, when nothing was sent, as the cache has it. mayWrite says why an object that exists
// must not be written.
func Apply[T Configuration[T]](ctx context.Context, a *Applier, want T, live client.Object, mayWrite MayWrite) error {
	return a.apply(ctx, intent{
		kind: *want.GetKind(), key: client.ObjectKey{Namespace: *want.GetNamespace(), Name: *want.GetName()}, want: want, body: want,
		cached: func() error {
			return a.client.Get(ctx, client.ObjectKey{Namespace: *want.GetNamespace(), Name: *want.GetName()}, live)
		},
		annotate: func(hash string) { want.WithAnnotations(map[string]string{v1alpha1.AnnotationIntentHash: hash}) },
	}, live, mayWrite)
}

// Object is [Apply] for kinds without a generated configuration. want has only the fields that are to be written; cached
// reads the object of its kind and name from a cache. It returns the object as Apply leaves it in live.
func (a *Applier) Object(ctx context.Context, want *unstructured.Unstructured, cached func(into *unstructured.Unstructured) error, mayWrite MayWrite) (*unstructured.Unstructured, error) {
	want, live := want.DeepCopy(), &unstructured.Unstructured{}
	live.SetGroupVersionKind(want.GroupVersionKind())
	return live, a.apply(ctx, intent{
		kind: want.GetKind(), key: client.ObjectKeyFromObject(want), want: client.ApplyConfigurationFromUnstructured(want), body: want,
		cached: func() error { return cached(live) },
		annotate: func(hash string) {
			annotations := want.GetAnnotations()
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[v1alpha1.AnnotationIntentHash] = hash
			want.SetAnnotations(annotations)
		},
	}, live, mayWrite)
}

// MayWrite says why an object that exists must not be written.
type MayWrite = func(kind string, o metav1.Object) error

// intent is what is wanted of one object.
type intent struct {
	kind     string
	key      client.ObjectKey
	want     runtime.ApplyConfiguration
	body     any                     // what want says, as JSON; the API server's answer, once it was applied
	cached   func() error            // reads the object from the cache
	annotate func(intentHash string) // adds the hash to want
}

func (a *Applier) apply(ctx context.Context, i intent, live client.Object, mayWrite MayWrite) error {
	kind, name := i.kind, i.key.Name
	raw, err := json.Marshal(i.body)
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", kind, name, err)
	}
	hash := hashOf(raw)

	err = i.cached()
	switch {
	case apierrors.IsNotFound(err):
		// The cache holds only what carries our label: ask the API server whether somebody else's object is there.
		err = a.live.Get(ctx, i.key, live)
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("reading %s %s: %w", kind, name, err)
		}
		if err == nil {
			if err := mayWrite(kind, live); err != nil {
				return err
			}
		}
	case err != nil:
		return fmt.Errorf("reading %s %s: %w", kind, name, err)
	default:
		if err := mayWrite(kind, live); err != nil {
			return err
		}
		same, err := a.unchanged(raw, hash, live)
		if err != nil {
			return fmt.Errorf("comparing %s %s: %w", kind, name, err)
		}
		if same {
			a.applied.WithLabelValues(kind, "skipped").Inc()
			return nil
		}
	}

	exists := err == nil
	i.annotate(hash)
	err = a.client.Apply(ctx, i.want, FieldOwner, client.ForceOwnership)
	if apierrors.IsInvalid(err) && exists && a.replace(ctx, raw, live) == nil {
		err = a.client.Apply(ctx, i.want, FieldOwner, client.ForceOwnership)
	}
	switch {
	case apierrors.IsInvalid(err):
		return outcome.Stall(v1alpha1.ReasonInvalidSpec, "the API server refuses %s %s: %w", kind, name, err)
	case err != nil:
		return fmt.Errorf("applying %s %s: %w", kind, name, err)
	}
	a.applied.WithLabelValues(kind, "applied").Inc()
	return answer(i.body, live)
}

// replace overwrites whole lists. An edit by hand can leave an element beside which ours is not valid, for example a
// second port of the same name, and server-side apply never takes away what somebody else has added.
func (a *Applier) replace(ctx context.Context, raw []byte, live client.Object) error {
	var want map[string]any
	if err := json.Unmarshal(raw, &want); err != nil {
		return err
	}
	for _, k := range []string{"apiVersion", "kind", "metadata"} {
		delete(want, k)
	}
	patch, err := json.Marshal(want)
	if err != nil {
		return err
	}
	return a.client.Patch(ctx, live, client.RawPatch(types.MergePatchType, patch), FieldOwner)
}

// answer copies what the API server answered, which is in applied, to live. The cache may still have the object as it
// was, and whoever read its status would take an older generation for this one.
func answer(applied any, live client.Object) error {
	raw, err := json.Marshal(applied)
	if err != nil {
		return fmt.Errorf("reading the API server's answer: %w", err)
	}
	reset(live)
	if err := json.Unmarshal(raw, live); err != nil {
		return fmt.Errorf("reading the API server's answer: %w", err)
	}
	live.SetManagedFields(nil)
	return nil
}

func reset(o client.Object) {
	v := reflect.ValueOf(o).Elem()
	v.Set(reflect.Zero(v.Type()))
}

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// unchanged says whether live, from the cache, says all that is wanted, whose JSON is raw.
func (a *Applier) unchanged(raw []byte, hash string, live client.Object) (bool, error) {
	if live.GetAnnotations()[v1alpha1.AnnotationIntentHash] != hash {
		return false, nil
	}
	if a.same.has(live, hash) {
		return true, nil
	}
	var want map[string]any
	if err := kjson.Unmarshal(raw, &want); err != nil {
		return false, err
	}
	have, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
	if err != nil {
		return false, err
	}
	delete(want, "apiVersion") // typed objects from the cache carry neither
	delete(want, "kind")
	if !Contains(have, want) {
		return false, nil
	}
	a.same.add(live, hash)
	return true, nil
}

// Contains says whether have says everything that want says. A map may have more keys, and a list of maps more
// elements in any order, since other writers may add theirs; a list of scalars and a selector must be the same.
func Contains(have, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return len(w) == 0 && have == nil // an empty object may be dropped by the server
		}
		for k, v := range w {
			hv, ok := h[k]
			if !ok && !empty(v) || ok && !Contains(hv, v) || ok && atomic[k] && !reflect.DeepEqual(hv, v) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		if !ok {
			return len(w) == 0 && have == nil
		}
		return containsList(h, w)
	}
	return reflect.DeepEqual(have, want)
}

// atomic are the fields that are one value (x-kubernetes-map-type or list-type: atomic): one more label selects other
// pods, one more rule of a NetworkPolicy opens another door.
var atomic = map[string]bool{"selector": true, "nodeSelector": true, "ingress": true, "egress": true}

func containsList(have, want []any) bool {
	if len(want) > 0 {
		if _, maps := want[0].(map[string]any); !maps {
			return reflect.DeepEqual(have, want)
		}
	}
	for _, w := range want {
		found := false
		for _, h := range have {
			if found = Contains(h, w); found {
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func empty(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}
