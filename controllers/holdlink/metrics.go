package holdlink

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct{ statusWrites prometheus.Counter }

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{statusWrites: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "atcr_holdlink_status_writes_total", Help: "Writes of HoldLink status.",
	})}
	if err := registry.Register(m.statusWrites); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	return m, nil
}
