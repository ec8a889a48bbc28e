package optional

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Handler says which objects a change concerns.
type Handler struct {
	// Object of the kind came, changed or went.
	Object func(ctx context.Context, kind schema.GroupVersionKind, o client.Object) []reconcile.Request
	// Served says that the kind can be read now, or no longer.
	Served func(ctx context.Context, kind schema.GroupVersionKind) []reconcile.Request
}

type watcher struct {
	ctx     context.Context //nolint:containedctx // of the source, whose events have no other
	handler Handler
	queue   workqueue.TypedRateLimitingInterface[reconcile.Request]
}

// Source brings changes to a controller.
func (k *Kinds) Source(h Handler) source.Source {
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.watchers = append(k.watchers, &watcher{ctx, h, queue})
		return nil
	})
}

func (k *Kinds) all() []*watcher {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]*watcher(nil), k.watchers...)
}

func (k *Kinds) tell(gvk schema.GroupVersionKind) {
	for _, w := range k.all() {
		for _, r := range w.handler.Served(w.ctx, gvk) {
			w.queue.Add(r)
		}
	}
}

func (k *Kinds) handler(gvk schema.GroupVersionKind) toolscache.ResourceEventHandler {
	changed := func(o any) {
		if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		object, ok := o.(client.Object)
		if !ok {
			return
		}
		for _, w := range k.all() {
			for _, r := range w.handler.Object(w.ctx, gvk, object) {
				w.queue.Add(r)
			}
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: changed, DeleteFunc: changed,
		UpdateFunc: func(before, after any) {
			if b, ok := before.(client.Object); ok && b.GetResourceVersion() == after.(client.Object).GetResourceVersion() {
				return // a resync
			}
			changed(after)
		},
	}
}
