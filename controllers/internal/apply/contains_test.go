package apply_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/controllers/internal/apply"
)

func TestContains(t *testing.T) {
	for name, c := range map[string]struct {
		have, want string
		contains   bool
	}{
		"the same":                              {"{a: 1, b: {c: x}}", "{a: 1, b: {c: x}}", true},
		"more than we said":                     {"{a: 1, z: 2, b: {c: x, y: z}}", "{a: 1, b: {c: x}}", true},
		"a value changed":                       {"{a: 2}", "{a: 1}", false},
		"a value gone":                          {"{}", "{a: 1}", false},
		"an element of another's among ours":    {"l: [{name: theirs}, {name: ours, v: 1, d: x}]", "l: [{name: ours, v: 1}]", true},
		"an element of ours changed":            {"l: [{name: ours, v: 2}]", "l: [{name: ours, v: 1}]", false},
		"an element of ours gone":               {"l: [{name: theirs}]", "l: [{name: ours}]", false},
		"an argument added":                     {"args: [serve, --debug]", "args: [serve]", false},
		"an argument the same":                  {"args: [serve]", "args: [serve]", true},
		"an empty object that the server drops": {"{}", "emptyDir: {}", true},
		"an object instead of a value":          {"a: {b: 1}", "a: 1", false},
		"a value instead of an object":          {"a: 1", "a: {b: 1}", false},
		"a label more in a selector":            {"selector: {a: b, c: d}", "selector: {a: b}", false},
		"nothing said":                          {"a: 1", "{}", true},
	} {
		t.Run(name, func(t *testing.T) {
			var have, want any
			require.NoError(t, yaml.Unmarshal([]byte(c.have), &have))
			require.NoError(t, yaml.Unmarshal([]byte(c.want), &want))
			require.Equal(t, c.contains, apply.Contains(have, want))
		})
	}
}
