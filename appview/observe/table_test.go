package observe

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/stretchr/testify/require"
)

func TestTheTableHasEveryMetricOnce(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(),
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x_total", Help: `Says "x".`}, []string{"a", "b"}),
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "a_bytes", Help: "Bytes."}))
	got, err := Table(r)
	require.NoError(t, err)
	require.Equal(t, "| metric | labels | meaning |\n| --- | --- | --- |\n| `a_bytes` |  | Bytes. |\n| `x_total` | `a`, `b` | Says \"x\". |\n| `go_*` | | the Go runtime |\n", got)
}
