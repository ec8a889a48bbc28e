package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// flushTime is how long the last spans may take at the end of a process.
const flushTime = 5 * time.Second

// Variables of the OpenTelemetry specification that decide whether there are traces. The others (OTEL_EXPORTER_OTLP_*,
// OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*) are read by its SDK.
const (
	otelDisabled       = "OTEL_SDK_DISABLED"
	otelExporter       = "OTEL_TRACES_EXPORTER"
	otelEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	otelTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	otelProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	otelTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
)

// Help describes the variables for --help.
const Help = `OpenTelemetry traces go to OTEL_EXPORTER_OTLP_ENDPOINT (OTLP over HTTP), when that or OTEL_TRACES_EXPORTER=otlp is set;
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_* and OTEL_SDK_DISABLED do what the
OpenTelemetry specification says.`

// TracingWanted says whether variables ask for traces, or what is wrong with them.
func TracingWanted(variable func(string) string) (bool, error) {
	switch exporter := variable(otelExporter); {
	case strings.EqualFold(variable(otelDisabled), "true"), exporter == "none":
		return false, nil
	case exporter == "" && variable(otelEndpoint) == "" && variable(otelTracesEndpoint) == "":
		return false, nil
	case exporter != "" && exporter != "otlp":
		return false, fmt.Errorf("%s=%.60q: want otlp or none", otelExporter, exporter)
	}
	for _, name := range []string{otelTracesProtocol, otelProtocol} {
		if p := variable(name); p != "" && p != "http/protobuf" {
			return false, fmt.Errorf("%s=%.60q: want http/protobuf", name, p)
		} else if p != "" {
			break // the one for traces wins
		}
	}
	return true, nil
}

// Tracing makes spans. Nil makes none, and costs nothing.
type Tracing struct {
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// OpenTracing starts to export spans as the process's OTEL_* variables say. service is the service's name unless they
// name another. A collector that is down loses spans and nothing else.
func OpenTracing(ctx context.Context, service, version string) (*Tracing, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("OpenTelemetry traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("OpenTelemetry traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &Tracing{provider: provider, tracer: provider.Tracer("atcr.io/operator/appview"), propagator: propagation.TraceContext{}}, nil
}

// Close sends the last spans. A collector that does not take them must not keep a process from its end.
func (t *Tracing) Close() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("OpenTelemetry traces: the last spans were lost: %w", err)
	}
	return nil
}

// Handler makes a span of each request, within the trace of whoever sent it. route is a bounded name.
func (t *Tracing) Handler(route func(*http.Request) string, next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := t.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		name := route(r)
		ctx, span := t.tracer.Start(ctx, r.Method+" "+name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("http.request.method", r.Method), attribute.String("http.route", name), attribute.String("url.path", r.URL.Path)))
		out := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			span.SetAttributes(attribute.Int("http.response.status_code", out.status))
			if out.status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}()
		next.ServeHTTP(out, r.WithContext(ctx))
	})
}

// send sends a request within a span of its own, and tells the other side which.
func (t *Tracing) send(next http.RoundTripper, service, method string, r *http.Request) (*http.Response, error) {
	ctx, span := t.tracer.Start(r.Context(), service+" "+method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("server.address", r.URL.Hostname()),
		attribute.String("atcr.peer", service), attribute.String("atcr.method", method)))
	defer span.End()
	if port, err := strconv.Atoi(r.URL.Port()); err == nil {
		span.SetAttributes(attribute.Int("server.port", port))
	}
	r = r.Clone(ctx)
	t.propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	resp, err := next.RoundTrip(r)
	if err != nil {
		span.SetStatus(codes.Error, "no answer") // the error may hold a URL with its query
		return resp, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	if resp.StatusCode >= http.StatusBadRequest {
		span.SetStatus(codes.Error, "")
	}
	return resp, nil
}

type statusWriter struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (w *statusWriter) WriteHeader(status int) {
	if !w.wrote && status >= http.StatusOK {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(b)
}

// ReadFrom leaves files to the kernel.
func (w *statusWriter) ReadFrom(src io.Reader) (int64, error) {
	w.wrote = true
	return io.Copy(w.ResponseWriter, src)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
