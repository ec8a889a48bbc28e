// Package observe is how the AppView and the hold are looked at from outside: both servers use the same code.
//
//   - request.go: an id for each request, in its answer and in every line that is logged on its behalf
//   - tracing.go: OpenTelemetry spans over OTLP/HTTP, when OTEL_* variables ask for them
//   - upstream.go: metrics and spans of requests that the server itself sends
//   - debug.go: probes, metrics and profiles on the debug listener
//   - table.go: the documented list of metrics
//
// Paths are logged and traced; queries, headers and bodies never: they hold tokens and signatures.
package observe
