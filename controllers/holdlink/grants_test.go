package holdlink

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A grant names who, and what: each of its words counts, and the words of one entry count together.
func TestWhatAReferenceGrantLets(t *testing.T) {
	type entry = map[string]any
	link := entry{"group": "operator.atcr.io", "kind": "HoldLink", "namespace": "tenant"}
	service := entry{"group": "", "kind": "Service"}
	with := func(e entry, key string, value any) entry {
		out := entry{key: value}
		for k, v := range e {
			if k != key {
				out[k] = v
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		from, to []any
		lets     bool
	}{
		"every Service":                {[]any{link}, []any{service}, true},
		"that Service":                 {[]any{link}, []any{with(service, "name", "hold")}, true},
		"a Service without a name":     {[]any{link}, []any{with(service, "name", "")}, true},
		"another Service":              {[]any{link}, []any{with(service, "name", "other")}, false},
		"that Service among others":    {[]any{link}, []any{with(service, "name", "other"), with(service, "name", "hold")}, true},
		"another kind of that name":    {[]any{link}, []any{with(with(service, "kind", "Secret"), "name", "hold")}, false},
		"a Service of another group":   {[]any{link}, []any{with(service, "group", "serving.knative.dev")}, false},
		"from another namespace":       {[]any{with(link, "namespace", "elsewhere")}, []any{service}, false},
		"from everywhere, as it seems": {[]any{with(link, "namespace", "")}, []any{service}, false},
		"from another kind":            {[]any{with(link, "kind", "HTTPRoute")}, []any{service}, false},
		"from another group":           {[]any{with(link, "group", "")}, []any{service}, false},
		"from one among others":        {[]any{with(link, "namespace", "elsewhere"), link}, []any{service}, true},
		"from two halves":              {[]any{with(link, "namespace", "elsewhere"), with(link, "kind", "HTTPRoute")}, []any{service}, false},
		"to two halves":                {[]any{link}, []any{with(with(service, "kind", "Secret"), "name", "hold"), with(service, "name", "other")}, false},
		"from nobody":                  {nil, []any{service}, false},
		"to nothing":                   {[]any{link}, nil, false},
		"what is no entry":             {[]any{"tenant"}, []any{service}, false},
	} {
		grant := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"from": c.from, "to": c.to}}}
		require.Equal(t, c.lets, lets(grant, "tenant", "hold"), name)
	}
	require.False(t, lets(&unstructured.Unstructured{Object: map[string]any{}}, "tenant", "hold"), "without a spec")
}
