package controltest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/conditions"
	"atcr.io/operator/controllers/manager"
)

// Image is the server's default image in tests. Nothing runs it.
const Image = "registry.test/atcr-appview:v0"

// patience bounds every wait: far longer than anything takes, so that a slow machine fails no test.
const patience = 60 * time.Second

// Env is one test's namespace on the API server.
type Env struct {
	testing.TB
	Namespace string
	Client    client.WithWatch
	Config    *rest.Config
}

// New makes a namespace, and checks every status that is written in it until the test ends.
func New(t testing.TB) *Env {
	t.Helper()
	cfg := Config(t)
	cfg.QPS = -1
	c, err := client.NewWithWatch(cfg, client.Options{Scheme: manager.Scheme()})
	require.NoError(t, err)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-", Labels: map[string]string{"test": "true"}}}
	require.NoError(t, c.Create(t.Context(), ns))
	e := &Env{TB: t, Namespace: ns.Name, Client: c, Config: cfg}
	e.checkEveryStatus(ns.Name)
	return e
}

// OtherNamespace makes another namespace with labels. Statuses in it are checked too.
func (e *Env) OtherNamespace(labels map[string]string) string {
	e.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-", Labels: labels}}
	require.NoError(e, e.Client.Create(e.Context(), ns))
	e.checkEveryStatus(ns.Name)
	return ns.Name
}

// Option changes how the operator runs.
type Option func(*rest.Config, *manager.Options)

// Everywhere lets the operator watch all namespaces, as it does by default in production.
func Everywhere() Option { return func(_ *rest.Config, o *manager.Options) { o.Namespaces = nil } }

// Counted makes c count the operator's requests.
func Counted(c *Counter) Option {
	return func(cfg *rest.Config, _ *manager.Options) { cfg.Wrap(c.wrap) }
}

// NoLoopback keeps the operator from calling holds on this machine, as in production.
func NoLoopback() Option {
	return func(_ *rest.Config, o *manager.Options) { o.AllowPrivateHolds = nil }
}

// Operator is a running operator.
type Operator struct {
	ctrl.Manager
	Metrics *prometheus.Registry
	Stop    func()
}

// Operator starts the operator for this test's namespace, and stops it when the test ends.
func (e *Env) Operator(options ...Option) *Operator {
	e.Helper()
	registry := prometheus.NewRegistry()
	cfg := rest.CopyConfig(e.Config)
	o := manager.Options{
		AppViewImage: Image, ClusterDomain: "cluster.local", Namespaces: []string{e.Namespace},
		AllowPrivateHolds: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		MetricsAddress:    "0", HealthAddress: "0", Log: e.log(), Metrics: registry, SkipNameValidation: true,
	}
	for _, option := range options {
		option(cfg, &o)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	mgr, err := manager.New(ctx, cfg, o)
	require.NoError(e, err)
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				e.Errorf("the operator ended with: %v", err)
			}
		})
	}
	e.Cleanup(stop)
	require.True(e, mgr.GetCache().WaitForCacheSync(ctx))
	return &Operator{Manager: mgr, Metrics: registry, Stop: stop}
}

func (e *Env) log() *slog.Logger {
	w := io.Discard
	if os.Getenv("OPERATOR_LOG") != "" {
		w = os.Stderr
	}
	return slog.New(slog.NewTextHandler(w, nil))
}

// checkEveryStatus watches a namespace's AppViews and HoldLinks, and fails the test for a status that breaks a rule of
// kstatus, or has a condition that the page of its kind does not know.
func (e *Env) checkEveryStatus(namespace string) {
	e.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	var wg sync.WaitGroup
	for _, list := range []client.ObjectList{&v1alpha1.AppViewList{}, &v1alpha1.HoldLinkList{}} {
		w, err := e.Client.Watch(ctx, list, client.InNamespace(namespace))
		require.NoError(e, err)
		wg.Go(func() {
			for ev := range w.ResultChan() {
				e.checkStatus(ev)
			}
		})
	}
	e.Cleanup(func() { cancel(); wg.Wait() })
}

func (e *Env) checkStatus(ev watch.Event) {
	var broken []error
	var name string
	switch o := ev.Object.(type) {
	case *v1alpha1.AppView:
		name = "AppView " + o.Name
		broken = append(conditions.Check(o.Generation, o.Status.ObservedGeneration, o.Status.Conditions), unpromised("AppView", o.Status.Conditions)...)
	case *v1alpha1.HoldLink:
		name = "HoldLink " + o.Name
		broken = append(conditions.Check(o.Generation, o.Status.ObservedGeneration, o.Status.Conditions), unpromised("HoldLink", o.Status.Conditions)...)
	}
	for _, err := range broken {
		e.Errorf("%s breaks a rule: %v", name, err)
	}
}

// Create creates objects in the test's namespace, unless they name another.
func (e *Env) Create(objects ...client.Object) {
	e.Helper()
	for _, o := range objects {
		if o.GetNamespace() == "" {
			o.SetNamespace(e.Namespace)
		}
		require.NoError(e, e.Client.Create(e.Context(), o))
	}
}

// Get reads an object of the test's namespace from the API server.
func (e *Env) Get(name string, o client.Object) {
	e.Helper()
	require.NoError(e, e.Client.Get(e.Context(), client.ObjectKey{Namespace: e.Namespace, Name: name}, o))
}

// Update changes o on the API server, again if somebody else was faster.
func Update[T client.Object](e *Env, o T, change func(T)) {
	e.Helper()
	e.Eventually(fmt.Sprintf("update %s", o.GetName()), func() error {
		if err := e.Client.Get(e.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change(o)
		return e.Client.Update(e.Context(), o)
	})
}

// Eventually repeats ok until it returns nil; after far too long the test fails with its last error.
func (e *Env) Eventually(what string, ok func() error) {
	e.Helper()
	e.within(patience, 20*time.Millisecond, what, ok)
}

// Patiently is [Env.Eventually] for what takes minutes, or costs something to ask.
func (e *Env) Patiently(what string, ok func() error) {
	e.Helper()
	e.within(10*patience, 100*time.Millisecond, what, ok)
}

// Seldom is [Env.Patiently] for what costs a lot to ask.
func (e *Env) Seldom(what string, ok func() error) {
	e.Helper()
	e.within(10*patience, time.Second, what, ok)
}

func (e *Env) within(patience, every time.Duration, what string, ok func() error) {
	e.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			require.NoError(e, err, "gave up waiting: %s", what)
		case <-tick.C:
		}
	}
}

// AppView waits until the AppView has the conditions, each as "Type=Status" or "Type=Status/Reason", for its newest
// generation, and returns it.
func (e *Env) AppView(name string, want ...string) *v1alpha1.AppView {
	e.Helper()
	av := &v1alpha1.AppView{}
	e.Eventually(fmt.Sprintf("AppView %s with %v", name, want), func() error {
		if err := e.Client.Get(e.Context(), client.ObjectKey{Namespace: e.Namespace, Name: name}, av); err != nil {
			return err
		}
		return has(av.Generation, av.Status.ObservedGeneration, av.Status.Conditions, want)
	})
	see("AppView", av.Status.Conditions, want)
	return av
}

// HoldLink waits as [Env.AppView] does.
func (e *Env) HoldLink(name string, want ...string) *v1alpha1.HoldLink {
	e.Helper()
	return e.HoldLinkIn(e.Namespace, name, want...)
}

// HoldLinkIn waits for a HoldLink of another namespace.
func (e *Env) HoldLinkIn(namespace, name string, want ...string) *v1alpha1.HoldLink {
	e.Helper()
	link := &v1alpha1.HoldLink{}
	e.Eventually(fmt.Sprintf("HoldLink %s with %v", name, want), func() error {
		if err := e.Client.Get(e.Context(), client.ObjectKey{Namespace: namespace, Name: name}, link); err != nil {
			return err
		}
		return has(link.Generation, link.Status.ObservedGeneration, link.Status.Conditions, want)
	})
	see("HoldLink", link.Status.Conditions, want)
	return link
}

func has(generation, observed int64, all []metav1.Condition, want []string) error {
	if observed != generation {
		return fmt.Errorf("generation %d was not observed, only %d", generation, observed)
	}
	for _, w := range want {
		kind, rest, _ := strings.Cut(w, "=")
		status, reason, _ := strings.Cut(rest, "/")
		c := meta.FindStatusCondition(all, kind)
		switch {
		case c == nil && status == "":
		case c == nil:
			return fmt.Errorf("%s is not there, want %s", kind, w)
		case status == "" || string(c.Status) != status || reason != "" && c.Reason != reason:
			return fmt.Errorf("%s=%s/%s (%s), want %s", c.Type, c.Status, c.Reason, c.Message, w)
		}
	}
	return nil
}

// Events are the "Reason" of the events about an object so far, oldest first.
func (e *Env) Events(name string) []eventsv1.Event {
	e.Helper()
	var list eventsv1.EventList
	require.NoError(e, e.Client.List(e.Context(), &list, client.InNamespace(e.Namespace)))
	var out []eventsv1.Event
	for _, ev := range list.Items {
		if ev.Regarding.Name == name {
			out = append(out, ev)
		}
	}
	return out
}

// Told is how often an event with that reason was told about an object so far.
func (e *Env) Told(name, reason string) (n int) {
	e.Helper()
	for _, ev := range e.Events(name) {
		if ev.Reason != reason {
			continue
		}
		n++
		if ev.Series != nil {
			n += int(ev.Series.Count) - 1
		}
	}
	return n
}

// Split takes "Type=Status/Reason" apart.
func Split(condition string) (kind, reason string) {
	kind, rest, _ := strings.Cut(condition, "=")
	_, reason, _ = strings.Cut(rest, "/")
	return kind, reason
}

// Event waits for an event with that reason about an object.
func (e *Env) Event(name, reason string) eventsv1.Event {
	e.Helper()
	var found eventsv1.Event
	e.Eventually(fmt.Sprintf("event %s about %s", reason, name), func() error {
		var seen []string
		for _, ev := range e.Events(name) {
			if ev.Reason == reason {
				found = ev
				return nil
			}
			seen = append(seen, ev.Reason)
		}
		return fmt.Errorf("events so far: %v", seen)
	})
	return found
}
