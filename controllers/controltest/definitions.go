package controltest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/test/testenv"
)

// definitions are where the real definitions of optional kinds come from: modules that testdata/crds/go.mod pins, and
// files in them.
var definitions = map[schema.GroupVersionKind]struct{ module, file string }{
	optional.HTTPRoute.GroupVersionKind:      {"sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"},
	optional.ReferenceGrant.GroupVersionKind: {"sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml"},
	PrometheusRule.GroupVersionKind:          {"github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"},
	optional.ServiceMonitor.GroupVersionKind: {"github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"},
	optional.Certificate.GroupVersionKind:    {"github.com/cert-manager/cert-manager", "deploy/crds/cert-manager.io_certificates.yaml"},
}

// PrometheusRule is a kind that the operator itself does not use: config/prometheus has one.
var PrometheusRule = optional.Kind{
	GroupVersionKind: schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: "PrometheusRule"}, Plural: "prometheusrules",
}

// Definition is the real CustomResourceDefinition of an optional kind.
func (e *Env) Definition(kind optional.Kind) *unstructured.Unstructured {
	e.Helper()
	from, known := definitions[kind.GroupVersionKind]
	require.True(e, known, "no definition of %s", kind.Kind)
	dir, err := moduleDir(from.module)
	require.NoError(e, err)
	raw, err := os.ReadFile(filepath.Join(dir, from.file))
	require.NoError(e, err)
	crd := &unstructured.Unstructured{}
	require.NoError(e, yaml.Unmarshal(raw, &crd.Object))
	require.Equal(e, kind.Definition(), crd.GetName())
	return crd
}

// Install has the API server serve an optional kind, for every test of this binary from now on.
func (e *Env) Install(kind optional.Kind) {
	e.Helper()
	e.Eventually(kind.Kind+" has a definition", func() error {
		crd := e.Definition(kind)
		err := e.Client.Create(e.Context(), crd)
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		if err := e.Client.Get(e.Context(), client.ObjectKeyFromObject(crd), crd); err != nil {
			return err
		}
		if crd.GetDeletionTimestamp() != nil {
			return errors.New("an earlier one is being deleted")
		}
		return nil
	})
	e.Eventually(kind.Kind+" is served", func() error {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersionKind)
		return e.Client.List(e.Context(), list, client.InNamespace(e.Namespace), client.Limit(1))
	})
}

// Object reads an object of an optional kind from the API server once it is there.
func (e *Env) Object(kind optional.Kind, name string) *unstructured.Unstructured {
	e.Helper()
	o := kind.New()
	e.Eventually(kind.Kind+" "+name, func() error {
		return e.Client.Get(e.Context(), client.ObjectKey{Namespace: e.Namespace, Name: name}, o)
	})
	return o
}

// SetStatus is what the controller of an optional kind would write.
func (e *Env) SetStatus(kind optional.Kind, name string, status map[string]any) {
	e.Helper()
	e.Eventually("set the status of "+kind.Kind+" "+name, func() error {
		o := kind.New()
		if err := e.Client.Get(e.Context(), client.ObjectKey{Namespace: e.Namespace, Name: name}, o); err != nil {
			return err
		}
		o.Object["status"] = status
		return e.Client.Status().Update(context.WithoutCancel(e.Context()), o)
	})
}

var modules = sync.OnceValues(func() (map[string]string, error) {
	root, err := testenv.Root()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "mod", "download", "-json")
	cmd.Dir = filepath.Join(root, "controllers", "controltest", "testdata", "crds")
	for _, d := range definitions {
		cmd.Args = append(cmd.Args, d.module)
	}
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("downloading the modules with definitions: %w: %s%s", err, stderr.Bytes(), raw)
	}
	dirs := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(raw)); d.More(); {
		var m struct{ Path, Dir string }
		if err := d.Decode(&m); err != nil {
			return nil, fmt.Errorf("reading the answer of go mod download: %w", err)
		}
		dirs[m.Path] = m.Dir
	}
	return dirs, nil
})

func moduleDir(module string) (string, error) {
	dirs, err := modules()
	if err == nil && dirs[module] == "" {
		err = fmt.Errorf("module %s has no folder", module)
	}
	return dirs[module], err
}
