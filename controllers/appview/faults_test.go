package appview_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/appview/config/names"
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

// stumbles is more than the requests about one AppView from apply to Ready.
const stumbles = 48

// Each request of a registry's birth is refused once, for another registry each: by a conflict, or an error of the API
// server. All come to the same end, no key is made twice, and nothing is tried again and again.
func TestARefusalOfAnyOneRequestChangesNothingAboutTheEnd(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	servers := &controltest.Servers{}
	stumble := &controltest.Stumble{}
	for i := range stumbles {
		stumble.Names = append(stumble.Names, fmt.Sprintf("stumbles-%02d", i))
	}
	seen := e.WatchSecrets(servers)
	var requests controltest.Counter
	e.Operator(controltest.Counted(&requests), stumble.Watch)
	e.Kubelet()
	for _, name := range stumble.Names {
		e.Create(appView(name))
	}
	for _, name := range stumble.Names {
		e.AppView(name, "Ready=True", "Reconciling=", "Stalled=", "KeysReady=True/Generated")
		t.Logf("%s: %s", name, stumble.Refused(name))
		for _, suffix := range []string{"-signing", "-signing-next", "-oauth", "-did", "-sealing"} {
			versions := seen.Of(name + suffix)
			for _, s := range versions {
				require.Equal(t, versions[0].UID, s.UID, "%s was made twice", s.Name)
				require.Equal(t, versions[0].Data[names.FileSigningKey], s.Data[names.FileSigningKey], s.Name)
			}
		}
	}
	require.NotEmpty(t, stumble.Refused(stumble.Names[0]))
	require.Empty(t, stumble.Refused(stumble.Names[stumbles-1]), "there are more requests than registries: raise stumbles")
	noHotLoop(t, &requests)
}
