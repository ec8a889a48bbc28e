package conditions

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
)

// Gauge is a metric of the conditions of every object of a kind: 1 for the status that a condition has, 0 for the others.
// What the spec does not ask for has no series.
//
// A prometheus.GaugeVec keeps half a kilobyte for each series, and an object has dozens: more than all else that the
// operator remembers of it. Here a condition is a byte, and series are made when they are asked for.
type Gauge struct {
	desc  *prometheus.Desc
	kinds []string

	mu   sync.Mutex
	seen map[types.NamespacedName]string // a byte for each kind
}

// What a byte says.
const (
	noSeries byte = iota
	absent        // no condition of that type: every status is 0
	isTrue
	isFalse
	isUnknown
)

var statuses = []struct {
	is     byte
	status metav1.ConditionStatus
}{{isTrue, metav1.ConditionTrue}, {isFalse, metav1.ConditionFalse}, {isUnknown, metav1.ConditionUnknown}}

// NewGauge makes the metric of conditions of these types.
func NewGauge(name, help string, kinds []string) *Gauge {
	return &Gauge{
		desc:  prometheus.NewDesc(name, help, []string{"namespace", "name", "type", "status"}, nil),
		kinds: slices.Clone(kinds), seen: map[types.NamespacedName]string{},
	}
}

// Set takes the conditions that an object has now.
func (g *Gauge) Set(key types.NamespacedName, conditions []metav1.Condition) {
	var b strings.Builder
	for _, kind := range g.kinds {
		b.WriteByte(of(meta.FindStatusCondition(conditions, kind)))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := b.String(); g.seen[key] != now {
		g.seen[key] = now
	}
}

func of(c *metav1.Condition) byte {
	switch {
	case c == nil:
		return absent
	case c.Reason == v1alpha1.ReasonNotRequested, c.Reason == v1alpha1.ReasonNotConfigured:
		return noSeries
	}
	for _, s := range statuses {
		if s.status == c.Status {
			return s.is
		}
	}
	return absent
}

// Forget drops an object that is gone.
func (g *Gauge) Forget(key types.NamespacedName) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.seen, key)
}

// Describe implements prometheus.Collector.
func (g *Gauge) Describe(to chan<- *prometheus.Desc) { to <- g.desc }

// Collect implements prometheus.Collector.
func (g *Gauge) Collect(to chan<- prometheus.Metric) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key, seen := range g.seen {
		for i, kind := range g.kinds {
			if seen[i] == noSeries {
				continue
			}
			for _, s := range statuses {
				value := 0.0
				if s.is == seen[i] {
					value = 1
				}
				to <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, key.Namespace, key.Name, kind, string(s.status))
			}
		}
	}
}
