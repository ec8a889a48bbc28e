package bench_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/test/bench"
	"atcr.io/operator/test/testenv"
)

// The benchmark itself must not rot: everything runs once, every answer is checked, and no time is asserted.
func TestEverySectionMeasuresEveryPeer(t *testing.T) {
	var out bytes.Buffer
	o := bench.Smoke()
	o.Dir, o.Out = t.TempDir(), &out
	report, err := bench.Run(t.Context(), o)
	if errors.Is(err, bench.ErrTool) {
		testenv.Missing(t, "a server to compare with", err.Error())
	}
	require.NoError(t, err, out.String())
	for measurement, peers := range map[string][]string{
		"idle MiB":                               {"atcr/appview", "atcr/hold", "distribution/distribution"},
		"GET /v2/, CPU us":                       {"atcr", "distribution", "floor"},
		"GET manifest by tag, CPU us":            {"atcr", "distribution"},
		"GET manifest by digest, CPU us":         {"atcr", "distribution", "floor"},
		"GET manifest by tag, token, CPU us":     {"atcr", "distribution+token"},
		"HEAD blob, CPU us":                      {"atcr", "distribution"},
		"GET blob of 64 KiB, requests/s":         {"atcr", "distribution"},
		"list of tags, CPU us":                   {"atcr", "distribution"},
		"token for an app password, CPU us":      {"atcr"},
		"push 1 MiB":                             {"atcr", "distribution", "atcr-s3", "distribution-s3"},
		"pull 1 MiB":                             {"atcr", "distribution", "atcr-s3", "distribution-s3"},
		"MiB with idle connections":              {"atcr", "distribution", "floor"},
		"start ms":                               {"atcr", "distribution"},
		"10 repositories, once, CPU us":          {"atcr"},
		"100 of 250 tags, CPU us":                {"atcr", "distribution"},
		"referrers of a manifest with 3, CPU us": {"atcr"},
	} {
		for _, peer := range peers {
			require.Positive(t, report.Values[measurement][peer], "%s of %s", measurement, peer)
		}
	}
	last := report.Tables[len(report.Tables)-1]
	require.Equal(t, "Soak", last.Title)
	for _, table := range report.Tables {
		for _, row := range table.Rows {
			require.Len(t, row, len(table.Columns), table.Title)
		}
		require.Contains(t, out.String(), table.String())
	}
	require.Contains(t, out.String(), "atcr: the AppView sent 0 bytes of a body")
	require.NotContains(t, strings.ToLower(out.String()), "nan")
}
