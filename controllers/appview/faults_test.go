package appview_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/controllers/controltest"
)

func TestARefusedRequestIsTriedAgainLessAndLessOften(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]*controltest.Fault{
		"a Deployment": {Method: http.MethodPatch, Path: "/deployments/"},
		"a Service":    {Method: http.MethodPatch, Path: "/services/"},
		"a Secret":     {Method: http.MethodPost, Path: "/secrets"},
		"a claim":      {Method: http.MethodPatch, Path: "/persistentvolumeclaims/"},
		"status":       {Method: http.MethodPatch, Path: "/status"},
		"a finalizer":  {Method: http.MethodPatch, Path: "/appviews/registry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := controltest.New(t)
			e.Operator(controltest.With(fault))
			e.Kubelet()
			e.Create(appView("registry"))
			// Watches bring it back a few times while its children appear; after that only the delay does, and it grows.
			e.Eventually("a pause between two attempts", func() error {
				times := fault.Times()
				for i := 1; i < len(times); i++ {
					if times[i].Sub(times[i-1]) > 1500*time.Millisecond {
						return nil
					}
				}
				return fmt.Errorf("none in %d attempts", len(times))
			})
			require.Less(t, len(fault.Times()), 20, "%v", fault.Times())
			if name == "a Deployment" {
				av := e.AppView("registry", "Ready=False/ProgressingWithRetry", "Reconciling=True/ProgressingWithRetry", "Stalled=")
				require.Contains(t, condition(av, "Ready").Message, "make the deployment: applying Deployment registry")
			}

			fault.Off()
			e.AppView("registry", "Ready=True", "Reconciling=")
		})
	}
}

// The API server takes the Secret, and the answer is lost on its way: the next attempt finds the key and uses it.
func TestAKeyWhoseCreationWasNotAcknowledgedIsUsed(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	lost := &controltest.Fault{Method: http.MethodPost, Path: "/secrets", AfterTheFact: true}
	e.Operator(controltest.With(lost))
	e.Kubelet()
	e.Create(appView("registry"))
	e.Eventually("the answer is lost", func() error {
		if len(lost.Times()) == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	first := &corev1.Secret{}
	e.Eventually("the Secret is there", func() error {
		return e.Client.Get(t.Context(), client.ObjectKey{Namespace: e.Namespace, Name: "registry-signing-next"}, first)
	})
	lost.Off()
	e.AppView("registry", "Ready=True")
	again := &corev1.Secret{}
	e.Get("registry-signing-next", again)
	require.Equal(t, first.UID, again.UID)
	require.Equal(t, first.Data, again.Data)
}
