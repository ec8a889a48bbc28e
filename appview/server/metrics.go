package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/observe"
	"atcr.io/operator/appview/store"
)

// metrics of a server, in a registry of its own. metrics.md lists them; a test keeps the list true.
type metrics struct {
	kinds    kinds
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	received prometheus.Counter
	sent     prometheus.Counter
	tokens   *prometheus.CounterVec
	panics   *prometheus.CounterVec
	reloads  *prometheus.CounterVec
	upstream *observe.Upstream
}

func newMetrics(tracing *observe.Tracing) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "atcr_requests_total",
			Help: "Requests by route, method and status."}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "atcr_request_seconds",
			Help: "Time to the end of the answer, by route.", Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10, 60, 600}}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "atcr_requests_in_flight", Help: "Requests being served."}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "atcr_received_bytes_total", Help: "Bytes of request bodies."}),
		sent:     prometheus.NewCounter(prometheus.CounterOpts{Name: "atcr_sent_bytes_total", Help: "Bytes of answers; blobs that clients fetch from holds are not among them."}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "atcr_panics_total",
			Help: "Bugs that ended a request or a round of a background job, by where."}, []string{"where"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "atcr_token_requests_total",
			Help: "Token requests by how they ended: granted, refreshed, anonymous, or an error code."}, []string{"result"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "atcr_reloads_total",
			Help: "Changes of the key files, the TLS certificate and the runtime file: loaded, or failed, when the last good one stays."}, []string{"file", "result"}),
		upstream: observe.NewUpstream("atcr", tracing),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "atcr_build_info", Help: "Version of the server; always 1."}, []string{"version"})
	build.WithLabelValues(version.Version).Set(1)
	m.registry.MustRegister(m.requests, m.seconds, m.inFlight, m.received, m.sent, m.tokens, m.panics, m.reloads, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(m.upstream.Collectors()...)
	return m
}

// reloaded is for those who watch a file.
func (m *metrics) reloaded(file string) func(error) {
	for _, result := range []string{"loaded", "failed"} {
		m.reloads.WithLabelValues(file, result) // a counter that appears with its first failure cannot be alerted on
	}
	return func(err error) {
		result := "loaded"
		if err != nil {
			result = "failed"
		}
		m.reloads.WithLabelValues(file, result).Inc()
	}
}

// state exposes what is read when somebody looks.
type state struct {
	keys     *auth.Keys
	verifier *auth.Verifier
	mirror   *index.Mirror
	db       *store.DB
}

var (
	keyInfo = prometheus.NewDesc("atcr_token_key_set_info", "The loaded token keys: the key id that signs, and the hash that /readyz names; always 1.", []string{"signer", "hash"}, nil)
	keyN    = prometheus.NewDesc("atcr_token_keys", "Keys whose tokens are accepted.", nil, nil)
	cacheN  = prometheus.NewDesc("atcr_cache_requests_total", "Look-ups in memory by cache and result: hit, miss, or absent, when it is known not to be there.", []string{"cache", "result"}, nil)
	syncN   = prometheus.NewDesc("atcr_mirror_syncs_total", "Comparisons of an account's mirrored records with its PDS: unchanged, read (again), truncated (read, but only the newest records are kept), or failed.", []string{"result"}, nil)
	staleN  = prometheus.NewDesc("atcr_mirror_stale_answers_total", "Requests answered from mirrored records because the account's PDS could not be asked.", nil, nil)
	wrongN  = prometheus.NewDesc("atcr_corrupt_manifests_total", "Manifests whose bytes do not hash to their digest, by where they were found: pds or store. They are not served.", []string{"where"}, nil)
	outboxN = prometheus.NewDesc("atcr_outbox_notifications", "Notifications that holds have not acknowledged yet.", nil, nil)
	outboxS = prometheus.NewDesc("atcr_outbox_overdue_seconds", "How long the notification that waits longest should have been delivered.", nil, nil)
	uploadN = prometheus.NewDesc("atcr_upload_sessions", "Blob uploads in progress, over all replicas.", nil, nil)
	dbUp    = prometheus.NewDesc("atcr_database_up", "Whether the database answered for these numbers.", nil, nil)
)

func (s state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{keyInfo, keyN, cacheN, syncN, staleN, wrongN, outboxN, outboxS, uploadN, dbUp} {
		ch <- d
	}
}

func (s state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	set := s.keys.Set()
	gauge(keyInfo, 1, set.SignerKID(), set.Hash())
	gauge(keyN, float64(len(set.KIDs())))
	hits, misses := s.verifier.Counts()
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	counter(cacheN, hits, "token", index.Hit)
	counter(cacheN, misses, "token", index.Miss)
	counts := s.mirror.Counts()
	for cache, results := range counts.Lookups {
		for result, n := range results {
			counter(cacheN, n, cache, result)
		}
	}
	for result, n := range counts.Syncs {
		counter(syncN, n, result)
	}
	for where, n := range counts.Corrupt {
		counter(wrongN, n, where)
	}
	counter(staleN, counts.Stale)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	b, err := s.db.Backlog(ctx)
	if err != nil {
		gauge(dbUp, 0)
		return
	}
	gauge(dbUp, 1)
	gauge(outboxN, float64(b.Notifications))
	gauge(outboxS, max(0, time.Since(b.NextDue).Seconds()))
	gauge(uploadN, float64(b.Uploads))
}

// MetricsTable is the table of metrics.md.
func (s *Server) MetricsTable() (string, error) { return observe.Table(s.metrics.registry) }
