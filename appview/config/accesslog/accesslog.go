// Package accesslog writes a line for each request without a system call for each: request lines wait for at most
// [Delay] and go out together, in order. Every other line is written at once and takes those that wait along. What a
// process that is killed loses is a tenth of a second of request lines, and nothing else.
package accesslog

import (
	"io"
	"log/slog"
	"sync"
	"time"
)

// Delay is how long a request line waits at most.
const Delay = 100 * time.Millisecond

const room = 64 << 10 // bytes that wait; more are written at once

// Handler is a [slog.Handler] whose lines are written at once. [Requests] gives the one for request lines.
type Handler struct {
	slog.Handler
	requests slog.Handler
	out      *writer
}

// New makes handlers over w; format is called for each of the two.
func New(w io.Writer, format func(io.Writer) slog.Handler) *Handler {
	out := &writer{w: w, waiting: make([]byte, 0, room)}
	return &Handler{Handler: format(out), requests: format(later{out}), out: out}
}

// WithAttrs implements [slog.Handler].
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{Handler: h.Handler.WithAttrs(attrs), requests: h.requests.WithAttrs(attrs), out: h.out}
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{Handler: h.Handler.WithGroup(name), requests: h.requests.WithGroup(name), out: h.out}
}

// RequestLines is what [Requests] answers for a logger with this handler.
func (h *Handler) RequestLines() (slog.Handler, func()) { return h.requests, h.out.flush }

// Requests is the handler for the request lines of a logger, and what writes those that wait. A handler around one of
// ours passes RequestLines on; any other logger writes these lines as all of its lines.
func Requests(log *slog.Logger) (h slog.Handler, flush func()) {
	if h, ok := log.Handler().(interface{ RequestLines() (slog.Handler, func()) }); ok {
		return h.RequestLines()
	}
	return log.Handler(), func() {}
}

// writer keeps the order of both kinds of lines.
type writer struct {
	w       io.Writer
	mu      sync.Mutex
	waiting []byte
	timer   *time.Timer
}

// Write writes what waits and then line.
func (o *writer) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drain()
	return o.w.Write(line)
}

func (o *writer) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drain()
}

// drain writes what waits; the caller holds mu.
func (o *writer) drain() {
	if len(o.waiting) > 0 {
		_, _ = o.w.Write(o.waiting) // there is nowhere to say that the log cannot be written
		o.waiting = o.waiting[:0]
	}
}

// later is the side of a writer whose lines wait.
type later struct{ *writer }

func (o later) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting)+len(line) > room {
		o.drain()
	}
	if len(o.waiting) == 0 {
		if o.timer == nil {
			o.timer = time.AfterFunc(Delay, o.flush)
		} else {
			o.timer.Reset(Delay)
		}
	}
	o.waiting = append(o.waiting, line...)
	return len(line), nil
}
