package chart

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/render"
)

// The chart of the first release, with the CRDs of that time, and objects that were stored under them.
const (
	firstChart   = "testdata/first/atcr-operator"
	firstObjects = "testdata/first/objects.yaml"
)

// What the first release stored is valid and readable under today's CRDs, its registry goes on with its key, and the way
// back loses nothing that the first release knew.
func TestRegistriesOfTheFirstReleaseLiveThroughAnUpgradeAndBack(t *testing.T) {
	c := newCluster(t)
	t.Cleanup(func() { // other tests want today's CRDs
		for _, args := range [][]string{{"upgrade", release, chart}, {"uninstall", release}} {
			out, err := helm(t, c.kubeconfig, append(args, "--namespace", c.Namespace)...)
			require.NoError(t, err, out)
		}
		c.serves(t, true)
	})
	chartFiles(t, firstChart)
	c.helm(t, "install", release, firstChart, "--take-ownership")
	c.serves(t, false)
	hold := c.NewHold()
	c.store(t, hold.DID, hold.URL)
	key := c.keyOfTheFirstRelease(t)
	before := c.read(t, "AppView", "registry")
	link := c.read(t, "HoldLink", "hold01")

	c.helm(t, "upgrade", release, chart)
	c.serves(t, true)
	require.Equal(t, before.Object, c.read(t, "AppView", "registry").Object, "nothing is lost, defaulted anew or made another generation")
	require.Equal(t, link.Object, c.read(t, "HoldLink", "hold01").Object)
	c.ratchets(t)

	operator := c.Operator()
	c.Kubelet()
	av := c.AppView("registry", "Ready=True", "Stalled=", "KeysReady=True", "Available=True")
	c.HoldLink("hold01", "Ready=True")
	require.Equal(t, key.Kid, av.Status.Keys.Signing.Current.Kid, "the key that signed goes on signing")
	require.Equal(t, before.GetUID(), av.UID)
	require.Equal(t, before.GetGeneration(), av.Generation, "the operator wrote no spec")
	operator.Stop()

	// A field that the first release does not know is all that the way back loses.
	newer := before.DeepCopy()
	av.Spec.Exposure.Ingress = &v1alpha1.Ingress{Hosts: []v1alpha1.Hostname{"registry.test"}}
	require.NoError(t, c.client.Update(t.Context(), av))
	c.helm(t, "rollback", release, "1")
	c.serves(t, false)
	back := c.read(t, "AppView", "registry")
	require.Equal(t, newer.Object["spec"], back.Object["spec"])
	require.Equal(t, before.GetUID(), back.GetUID())

	c.helm(t, "rollback", release, "2")
	c.serves(t, true)
	c.Operator()
	av = c.AppView("registry", "Ready=True", "Stalled=")
	require.Equal(t, key.Kid, av.Status.Keys.Signing.Current.Kid)
}

// serves waits until the API server has today's schema, or the first release's.
func (c *cluster) serves(t *testing.T, today bool) {
	t.Helper()
	c.Eventually(fmt.Sprintf("the schema changes (today's: %t)", today), func() error {
		av := &v1alpha1.AppView{}
		av.Namespace, av.Name = c.Namespace, "probe"
		av.Spec.Exposure.Ingress = &v1alpha1.Ingress{Hosts: []v1alpha1.Hostname{"registry.test"}}
		err := c.client.Create(context.WithoutCancel(t.Context()), av, client.DryRunAll, client.FieldValidation("Strict"))
		if (err == nil) != today {
			return fmt.Errorf("a field of today: %v", err) //nolint:errorlint // nil is what is told
		}
		return nil
	})
}

// store makes the first release's objects, with their status.
func (c *cluster) store(t *testing.T, did, url string) {
	t.Helper()
	text, err := os.ReadFile(firstObjects)
	require.NoError(t, err)
	for _, o := range parse(t, string(text)) {
		o.SetNamespace(c.Namespace)
		if o.GetKind() == "HoldLink" {
			require.NoError(t, unstructured.SetNestedField(o.Object, did, "spec", "hold", "did"))
			require.NoError(t, unstructured.SetNestedField(o.Object, url, "spec", "endpoint"))
		}
		status, has := o.Object["status"]
		require.NoError(t, c.client.Create(t.Context(), o, client.FieldValidation("Strict")), "%s %s", o.GetKind(), o.GetName())
		if has {
			o.Object["status"] = status
			require.NoError(t, c.client.Status().Update(t.Context(), o, client.FieldValidation("Strict")))
		}
	}
}

// keyOfTheFirstRelease makes the Secrets that the first release's operator had made: one key, and no record of a next.
func (c *cluster) keyOfTheFirstRelease(t *testing.T) *keyset.Key {
	t.Helper()
	av := &v1alpha1.AppView{}
	c.Get("registry", av)
	key, err := keyset.Generate(rand.Reader, keyset.ES256, av.Name, time.Now())
	require.NoError(t, err)
	signing, err := render.SigningSecret(av, &keyset.Set{Current: key})
	require.NoError(t, err)
	delete(signing.Annotations, v1alpha1.AnnotationKeySet)
	sealing, err := keyset.GenerateSealing(rand.Reader)
	require.NoError(t, err)
	for _, s := range []*corev1.Secret{signing, render.SealingSecret(av, sealing)} {
		require.NoError(t, c.client.Create(t.Context(), s))
	}
	return key
}

// read is an object as the API server has it, without what every write changes.
func (c *cluster) read(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(v1alpha1.SchemeGroupVersion.String())
	o.SetKind(kind)
	require.NoError(t, c.client.Get(t.Context(), client.ObjectKey{Namespace: c.Namespace, Name: name}, o))
	o.SetManagedFields(nil)
	return o
}

// ratchets checks that a rule that is younger than an object hinders only changes of what it is about.
func (c *cluster) ratchets(t *testing.T) {
	t.Helper()
	const name, label = "older-than-the-rule", "operator.atcr.io/team"
	av := &v1alpha1.AppView{}
	c.Get(name, av)
	none := int32(0)
	av.Spec.Replicas = &none
	require.NoError(t, c.client.Update(t.Context(), av), "another field may change")

	av.Spec.InheritedMetadata.Labels[label] = "another"
	require.ErrorContains(t, c.client.Update(t.Context(), av), "keys under operator.atcr.io/ are the operator's")
	av.Spec.InheritedMetadata.Labels = nil
	require.NoError(t, c.client.Update(t.Context(), av), "and it can be mended")

	fresh := &v1alpha1.AppView{}
	fresh.Namespace, fresh.Name = c.Namespace, "fresh"
	fresh.Spec.InheritedMetadata.Labels = map[string]string{label: "registry"}
	require.ErrorContains(t, c.client.Create(t.Context(), fresh), "keys under operator.atcr.io/ are the operator's")
	require.NoError(t, c.client.Delete(t.Context(), av))
}
