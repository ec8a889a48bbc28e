package optional_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/manager"
)

func TestMain(m *testing.M) { os.Exit(controltest.Main(m)) }

// seen is a controller that writes down what it is told.
type seen struct {
	manager  ctrl.Manager
	kinds    *optional.Kinds
	requests chan string
}

func watch(e *controltest.Env, cfg *rest.Config, o optional.Options) *seen {
	e.Helper()
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{Scheme: manager.Scheme(), Metrics: server.Options{BindAddress: "0"}})
	require.NoError(e, err)
	o.Kinds, o.Label = optional.All(), labels.SelectorFromSet(labels.Set{"ours": "true"})
	kinds, err := optional.New(mgr, o)
	require.NoError(e, err)
	s := &seen{mgr, kinds, make(chan string, 100)}
	source := kinds.Source(optional.Handler{
		Object: func(_ context.Context, kind schema.GroupVersionKind, o client.Object) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: kind.Kind, Name: o.GetName()}}}
		},
		Served: func(_ context.Context, kind schema.GroupVersionKind) []reconcile.Request {
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: kind.Kind, Name: "served"}}}
		},
	})
	require.NoError(e, ctrl.NewControllerManagedBy(mgr).Named("test").WithOptions(options(true)).WatchesRawSource(source).
		Complete(reconcile.Func(func(_ context.Context, r reconcile.Request) (reconcile.Result, error) {
			s.requests <- r.String()
			return reconcile.Result{}, nil
		})))
	ctx, cancel := context.WithCancel(context.WithoutCancel(e.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	e.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			e.Errorf("the manager ended with: %v", err)
		}
	})
	return s
}

func (s *seen) until(e *controltest.Env, want string) {
	e.Helper()
	e.Eventually(want, func() error {
		select {
		case got := <-s.requests:
			if got != want {
				return fmt.Errorf("told of %s", got)
			}
			return nil
		default:
			return errors.New("told of nothing")
		}
	})
}

func certificate(name string, labels map[string]string) *unstructured.Unstructured {
	o := optional.Certificate.New()
	o.SetName(name)
	o.SetLabels(labels)
	o.Object["spec"] = map[string]any{"secretName": name, "issuerRef": map[string]any{"name": "ca"}}
	return o
}

// One test, in this order: definitions are the whole API server's.
func TestAKindIsFollowedFromWhenItIsInstalledUntilItIsRemoved(t *testing.T) {
	e := controltest.New(t)
	var requests controltest.Counter
	cfg := rest.CopyConfig(e.Config)
	requests.Count(cfg)
	trouble := &controltest.Fault{Method: http.MethodGet, Path: "/" + optional.Certificate.Plural}
	trouble.Off()
	controltest.With(trouble)(cfg, nil)
	everywhere := watch(e, cfg, optional.Options{})
	key := client.ObjectKey{Namespace: e.Namespace, Name: "a"}

	require.ErrorIs(t, everywhere.kinds.Readable(t.Context(), optional.Certificate), optional.ErrNotServed)
	require.ErrorIs(t, everywhere.kinds.Get(t.Context(), optional.Certificate, key, optional.Certificate.New()), optional.ErrNotServed)

	e.Install(optional.Certificate)
	everywhere.until(e, "Certificate/served")
	require.NoError(t, everywhere.kinds.Readable(t.Context(), optional.Certificate))
	require.ErrorIs(t, everywhere.kinds.Readable(t.Context(), optional.HTTPRoute), optional.ErrNotServed)

	e.Create(certificate("theirs", nil), certificate("a", map[string]string{"ours": "true"}))
	everywhere.until(e, "Certificate/a")
	requests.Reset()
	got := optional.Certificate.New()
	require.NoError(t, everywhere.kinds.Get(t.Context(), optional.Certificate, key, got))
	require.Equal(t, "a", got.GetName())
	all, err := everywhere.kinds.List(t.Context(), optional.Certificate)
	require.NoError(t, err)
	require.Len(t, all, 1, "those of others are not kept")
	require.Empty(t, requests.Requests(), "reads come from the cache")

	// A change of its definition has it looked for again: that the API server cannot say now does not make it gone.
	trouble.On()
	again := func(n int) {
		t.Helper()
		from := len(trouble.Times())
		e.Until("it was looked for", func() bool { return len(trouble.Times()) >= from+n })
	}
	crd := e.Definition(optional.Certificate)
	controltest.Update(e, crd, func(o *unstructured.Unstructured) { o.SetAnnotations(map[string]string{"test": "changed"}) })
	again(2) // the second only when the first is over
	require.NoError(t, everywhere.kinds.Readable(t.Context(), optional.Certificate))
	require.NoError(t, everywhere.kinds.Get(t.Context(), optional.Certificate, key, optional.Certificate.New()))

	// One that starts meanwhile does not know.
	unsure := watch(e, cfg, optional.Options{})
	require.ErrorIs(t, unsure.kinds.Readable(t.Context(), optional.Certificate), optional.ErrUnsure)
	require.NotErrorIs(t, unsure.kinds.Readable(t.Context(), optional.HTTPRoute), optional.ErrUnsure)
	trouble.Off()
	unsure.until(e, "Certificate/served")
	require.NoError(t, unsure.kinds.Readable(t.Context(), optional.Certificate))

	// Another operator, for one namespace, which may not look at definitions.
	namespaced := watch(e, rest.CopyConfig(e.Config), optional.Options{Namespaces: []string{e.Namespace}})
	require.NoError(t, namespaced.kinds.Readable(t.Context(), optional.Certificate), "found at start")

	// And one whose role has no rule for the kind.
	nobody := rest.CopyConfig(e.Config)
	nobody.Impersonate.UserName = "nobody"
	nobody.Impersonate.Groups = []string{"system:authenticated"}
	forbidden := watch(e, nobody, optional.Options{Namespaces: []string{e.Namespace}})
	require.ErrorIs(t, forbidden.kinds.Readable(t.Context(), optional.Certificate), optional.ErrForbidden)

	require.NoError(t, e.Client.Delete(t.Context(), e.Definition(optional.Certificate)))
	everywhere.until(e, "Certificate/served")
	require.ErrorIs(t, everywhere.kinds.Readable(t.Context(), optional.Certificate), optional.ErrNotServed)

	e.Install(optional.Certificate)
	everywhere.until(e, "Certificate/served")
	e.Create(certificate("a", map[string]string{"ours": "true"}))
	everywhere.until(e, "Certificate/a")
}

func options(skip bool) controller.Options { return controller.Options{SkipNameValidation: &skip} }
