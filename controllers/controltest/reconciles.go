package controltest

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"k8s.io/client-go/rest"

	"atcr.io/operator/controllers/manager"
)

// beginsReconcile is what controller-runtime logs, at its level 5, when a controller takes up an object.
const (
	beginsReconcile      = "Reconciling"
	beginsReconcileLevel = slog.Level(-5)
)

// Reconciles counts how often each object is taken up by the operator's controllers.
type Reconciles struct {
	mu sync.Mutex
	by map[string]int // "controller/name"
}

// Watch is an [Option]. It takes the place of the operator's log.
func (r *Reconciles) Watch(_ *rest.Config, o *manager.Options) {
	o.Log = slog.New(counted{r, map[string]string{}})
}

// Of is how often a controller ("appview", "holdlink") has taken up the object of that name.
func (r *Reconciles) Of(controller, name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[controller+"/"+name]
}

// Objects is how many objects a controller has taken up at least once.
func (r *Reconciles) Objects(controller string) (n int) {
	r.each(controller, func(int) { n++ })
	return n
}

// All is how often a controller has taken up any object.
func (r *Reconciles) All(controller string) (n int) {
	r.each(controller, func(times int) { n += times })
	return n
}

func (r *Reconciles) each(controller string, f func(times int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, times := range r.by {
		if strings.HasPrefix(k, controller+"/") {
			f(times)
		}
	}
}

// counted is a slog.Handler that remembers who is reconciled.
type counted struct {
	r     *Reconciles
	about map[string]string
}

// Enabled implements slog.Handler.
func (counted) Enabled(_ context.Context, l slog.Level) bool { return l >= beginsReconcileLevel }

// Handle implements slog.Handler.
func (c counted) Handle(_ context.Context, record slog.Record) error {
	if record.Message != beginsReconcile {
		return nil
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.r.by == nil {
		c.r.by = map[string]int{}
	}
	c.r.by[c.about["controller"]+"/"+c.about["name"]]++
	return nil
}

// WithAttrs implements slog.Handler.
func (c counted) WithAttrs(attrs []slog.Attr) slog.Handler {
	about := maps.Clone(c.about)
	for _, a := range attrs {
		about[a.Key] = a.Value.String()
	}
	return counted{c.r, about}
}

// WithGroup implements slog.Handler.
func (c counted) WithGroup(string) slog.Handler { return c }
