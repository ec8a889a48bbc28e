package hold

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"atcr.io/operator/appview/observe"
)

// metrics of one hold, in a registry of its own. metrics.md lists them; a test keeps the list true.
type metrics struct {
	registry      *prometheus.Registry
	requests      *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	uploads       *prometheus.CounterVec
	uploadedBytes prometheus.Counter
	completion    prometheus.Histogram
	downloads     prometheus.Counter
	failures      prometheus.Counter
	refusals      prometheus.Counter
	upstream      *observe.Upstream

	collections    *prometheus.CounterVec
	collected      *prometheus.CounterVec
	collectedBytes prometheus.Counter
	unreadable     prometheus.Gauge
}

func newMetrics(version string, tracing *observe.Tracing) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_hold_requests_total", Help: "HTTP requests by XRPC method and status code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "atcr_hold_request_seconds", Help: "Duration of HTTP requests by XRPC method, bodies included.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 30, 120, 600},
		}, []string{"method"}),
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_hold_uploads_total", Help: "Uploads by what became of them: started, completed, mismatched, failed, refused, aborted, expired.",
		}, []string{"outcome"}),
		uploadedBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atcr_hold_uploaded_bytes_total", Help: "Bytes of completed uploads.",
		}),
		completion: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "atcr_hold_completion_seconds", Help: "Time to verify an upload and make its blob visible.",
			Buckets: []float64{.005, .01, .05, .1, .5, 1, 5, 30, 120, 600},
		}),
		downloads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atcr_hold_download_urls_total", Help: "URLs handed out to read blobs.",
		}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atcr_hold_quota_refusals_total", Help: "Manifests and uploads that did not fit into a user's quota.",
		}),
		collections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_hold_gc_runs_total", Help: "Garbage collections by outcome: completed, failed.",
		}, []string{"outcome"}),
		collected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atcr_hold_gc_removed_total", Help: "What garbage collections removed: link (a blob from a user), blob (from the storage), layer_record.",
		}, []string{"what"}),
		collectedBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atcr_hold_gc_removed_bytes_total", Help: "Bytes that garbage collections removed from the storage.",
		}),
		unreadable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "atcr_hold_gc_unreadable_users", Help: "Users that the last garbage collection left alone, as their manifests could not be read.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "atcr_hold_health_failures_total", Help: "Health checks that found the storage or a database failing.",
		}),
	}
	m.upstream = observe.NewUpstream("atcr_hold", tracing)
	m.registry.MustRegister(m.upstream.Collectors()...)
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "atcr_hold_build_info", Help: "Version of the hold; always 1.",
	}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.uploads, m.uploadedBytes, m.completion, m.downloads, m.failures, m.refusals, build,
		m.collections, m.collected, m.collectedBytes, m.unreadable,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// measured counts the requests of one route. The label is ours, never the request's: strangers must not make series.
func (m *metrics) measured(label string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		m.requests.WithLabelValues(label, strconv.Itoa(rec.status)).Inc()
		m.seconds.WithLabelValues(label).Observe(time.Since(start).Seconds())
	})
}

// MetricsTable is the table of metrics.md.
func (s *Server) MetricsTable() (string, error) { return observe.Table(s.metrics.registry) }
