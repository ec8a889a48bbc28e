package appview_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/manager"
)

// What was found out about one AppView says nothing about the next one of its name: the kstatus checker of the test
// would see a status of generation 2 on an object of generation 1.
func TestAStatusIsNotWrittenToASuccessor(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	write := &controltest.Meanwhile{Method: http.MethodPatch, Path: "/appviews/registry/status"}
	e.Operator(write.Watch)
	e.Kubelet()
	old := appView("registry")
	e.Create(old)
	e.AppView("registry", "Ready=True")

	replaced, mine := make(chan struct{}), old.DeepCopy()
	write.Once(func() {
		defer close(replaced)
		controltest.Update(e, mine, func(av *v1alpha1.AppView) { av.Finalizers = nil })
		if err := e.Client.Delete(t.Context(), mine); err != nil {
			t.Error(err)
		}
		next := appView("registry")
		next.Namespace = e.Namespace
		if err := e.Client.Create(t.Context(), next); err != nil {
			t.Error(err)
		}
	})
	controltest.Update(e, old, func(av *v1alpha1.AppView) { av.Spec.Logging.Level = "debug" })
	<-replaced
	e.CollectGarbage(old)
	e.AppView("registry", "Ready=True")
}

// logged is what the operator logs.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logged) watch(_ *rest.Config, o *manager.Options) {
	o.Log = slog.New(slog.NewTextHandler(l, nil))
}

func TestAnAppViewThatGoesAwayMeanwhileIsNoError(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var log logged
	finalizer := &controltest.Meanwhile{Method: http.MethodPatch, Path: "/appviews/registry"}
	e.Operator(finalizer.Watch, log.watch)
	av, mine := appView("registry"), appView("registry")
	mine.Namespace = e.Namespace
	finalizer.Once(func() {
		if err := e.Client.Delete(t.Context(), mine); err != nil {
			t.Error(err)
		}
	})
	e.Create(av)
	gone(e, av)
	e.Create(appView("another")) // reconciled after it
	e.AppView("another", "KeysReady=True")
	require.NotContains(t, log.String(), "adding the finalizer")
}

func TestAnAppViewWithoutItsFinalizerLeavesNoMetrics(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	op := e.Operator()
	av := appView("registry")
	e.Create(av)
	e.AppView("registry", "KeysReady=True")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Finalizers = nil })
	require.NoError(t, e.Client.Delete(t.Context(), av))
	gone(e, av)
	e.Eventually("no series is left", func() error {
		families, err := op.Metrics.Gather()
		if err != nil {
			return err
		}
		for _, f := range families {
			if f.GetName() == "atcr_appview_condition" {
				return fmt.Errorf("%d series", len(f.GetMetric()))
			}
		}
		return nil
	})
}

// A busy API server tells its watches late what has changed. What the operator then does not see yet, it neither makes nor
// deletes again and again.
func TestARotationThatIsSeenLateIsMadeOnceAndOfFewWrites(t *testing.T) {
	t.Parallel()
	for name, namespaces := range map[string][]string{
		"where caches wait for what was written": nil, "where they do not": {"default"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := controltest.New(t)
			servers := &controltest.Servers{}
			seen := e.WatchSecrets(servers, "10.1.1.1")
			var requests controltest.Counter
			e.Operator(servers.Asked(), propagation(10*time.Millisecond), controltest.Counted(&requests), controltest.Lagging(time.Second),
				func(_ *rest.Config, o *manager.Options) { o.Namespaces = append(o.Namespaces, namespaces...) })
			e.Kubelet()
			av := appView("registry")
			e.Create(av)
			e.AppView("registry", "Ready=True")
			e.Serving(deployment(e), "10.1.1.1")

			requests.Reset()
			controltest.Annotate(e, av, v1alpha1.AnnotationRotate, "1")
			e.Until("the key is rotated", func() bool {
				keys := e.AppView("registry").Status.Keys.Signing
				return keys.LastRequest == "1" && keys.Next != nil && len(keys.Retired) == 1 && keys.Retired[0].Until != nil
			})
			e.AppView("registry", "Ready=True")
			seen.RotatedOnce("registry")
			deletions := 0
			for _, w := range requests.Writes() {
				if strings.HasPrefix(w, http.MethodDelete) {
					deletions++
				}
			}
			if namespaces == nil {
				require.Equal(t, 1, deletions, "%v", requests.Writes())
			}
			require.Less(t, deletions, 8, "one look deletes once: %v", requests.Writes())
		})
	}
}
