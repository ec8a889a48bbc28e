package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const crds = "../../config/crd/bases"

// Pages written from today's CRDs; that those in api/ are the same is checked by hack/lint-fresh.sh.
func pages(t *testing.T) map[string]string {
	t.Helper()
	folder, out := t.TempDir(), map[string]string{}
	require.NoError(t, run(crds, folder))
	files, err := filepath.Glob(filepath.Join(folder, "*.md"))
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		out[filepath.Base(f)] = string(text)
	}
	return out
}

func TestEveryKindHasAPageWhoseLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	require.Len(t, all, 2)
	for name, page := range all {
		anchors := map[string]bool{}
		for _, h := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(page, -1) {
			require.False(t, anchors[anchor(h[1])], "%s has two sections %s", name, h[1])
			anchors[anchor(h[1])] = true
		}
		links := regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(page, -1)
		require.NotEmpty(t, links)
		for _, l := range links {
			require.True(t, anchors[l[1]], "%s links to #%s", name, l[1])
		}
		require.FileExists(t, "../../api/v1alpha1/"+strings.Replace(name, "-fields", "", 1), "the page that the reference names")
	}
}

func TestEveryFieldOfOursIsOnThePage(t *testing.T) {
	all := pages(t)
	files, err := filepath.Glob(crds + "/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var crd apiextensionsv1.CustomResourceDefinition
		require.NoError(t, yaml.Unmarshal(text, &crd))
		page := all[strings.ToLower(crd.Spec.Names.Kind)+"-fields.md"]
		count := 0
		var walk func(s *schema)
		walk = func(s *schema) {
			for name, f := range s.Properties {
				count++
				require.Contains(t, page, "| `"+name+"` |")
				inner := &f
				if f.Type == "array" {
					inner = f.Items.Schema
				}
				if known(inner) == "" {
					walk(inner)
				}
			}
		}
		for _, part := range []string{"spec", "status"} {
			s := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties[part]
			walk(&s)
		}
		require.Equal(t, count, strings.Count(page, "\n| `"), "one line for each field of %s", crd.Spec.Names.Kind)
	}
}

func TestLimitsAreSaidInWords(t *testing.T) {
	for _, c := range []struct{ schema, says string }{
		{`{type: integer, minimum: 1, maximum: 50}`, "1 to 50"},
		{`{type: integer, minimum: 2}`, "2 or more"},
		{`{type: string, minLength: 1, maxLength: 253, allOf: [{maxLength: 63}]}`, "1 to 63 characters"},
		{`{type: string, allOf: [{maxLength: 253}, {maxLength: 63}]}`, "at most 63 characters"},
		{`{type: string, enum: [A, B]}`, "one of `A`, `B`"},
		{`{type: string, pattern: 'a|b'}`, "matches `a\\|b`"},
		{`{type: array, maxItems: 8, items: {type: string, minLength: 1}}`, "at most 8 entries; each: 1 characters or more"},
		{`{type: integer, default: 1}`, "Default: `1`"},
		{`{type: string, x-kubernetes-validations: [{rule: "self > 1", message: "more than one"}]}`, "more than one"},
		{`{type: string, x-kubernetes-validations: [{rule: "self > 1"}]}`, "`self > 1`"},
	} {
		var s schema
		require.NoError(t, yaml.Unmarshal([]byte(c.schema), &s))
		require.Equal(t, c.says, limits(&s), c.schema)
	}
}

func TestAFieldWithoutADescriptionIsAnError(t *testing.T) {
	s := schema{Properties: map[string]schema{"name": {Type: "string"}}}
	require.ErrorContains(t, (&page{}).object("spec", &s), "spec.name has no description")
}
