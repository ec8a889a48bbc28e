package v1alpha1_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/controllers/controltest"
)

// constants of conditions.go by their value.
func constants(t *testing.T, prefix string) (out []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "conditions.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		require.NoError(t, err)
		require.Equal(t, prefix+value, spec.Names[0].Name)
		out = append(out, value)
		return true
	})
	require.NotEmpty(t, out)
	return out
}

// The tests of the controllers produce each condition that a page promises, and no other. This closes the circle: each
// constant is on a page.
func TestEveryConditionAndReasonIsOnThePageOfAKind(t *testing.T) {
	var types, reasons []string
	for _, kind := range []string{"AppView", "HoldLink"} {
		contract, err := controltest.ReadContract(kind)
		require.NoError(t, err)
		for name, r := range contract {
			types = append(types, name)
			reasons = slices.Concat(reasons, r.True, r.NotTrue)
		}
	}
	for _, c := range constants(t, "Condition") {
		require.Contains(t, types, c, "no page of api/v1alpha1 has a row about this condition")
	}
	for _, r := range constants(t, "Reason") {
		require.Contains(t, reasons, r, "no page of api/v1alpha1 names this reason in its table of conditions")
	}
	for _, r := range slices.Compact(slices.Sorted(slices.Values(reasons))) {
		require.Contains(t, constants(t, "Reason"), r, "a page names a reason that is no constant of conditions.go")
	}
}
