package oci

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
)

// Error is an answer of the Distribution API: {"errors":[{code,message,detail}]}. The message is a sentence about what
// is wrong and one about what to do.
type Error struct {
	Code       errcode.ErrorCode
	Status     int // the code's own when 0
	Sentence   string
	Remedy     string
	Detail     any
	RetryAfter time.Duration
	Err        error // for the log, never for the client
}

func (e *Error) Error() string {
	s := e.Code.String() + ": " + e.Sentence
	if e.Err != nil {
		s += " (" + e.Err.Error() + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

func (e *Error) status() int {
	if e.Status != 0 {
		return e.Status
	}
	return e.Code.Descriptor().HTTPStatusCode
}

// fail makes an Error of a code's usual status.
func fail(code errcode.ErrorCode, sentence, remedy string) *Error {
	return &Error{Code: code, Sentence: sentence, Remedy: remedy}
}

// because keeps the cause for the log.
func (e *Error) because(err error) *Error {
	e.Err = err
	return e
}

func (e *Error) with(detail any) *Error {
	e.Detail = detail
	return e
}

// statusClientGone is nginx's 499: nobody reads the answer, but logs and metrics should not call it our failure.
const statusClientGone = 499

// writeError answers err in the form of the spec. Errors that are no [Error] are translated first.
func (r *Registry) writeError(w http.ResponseWriter, req *http.Request, err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = translate(err)
	}
	if errors.Is(req.Context().Err(), context.Canceled) && e.status() >= 500 {
		w.WriteHeader(statusClientGone)
		return
	}
	if status := e.status(); status >= 500 {
		r.Log.LogAttrs(req.Context(), slog.LevelWarn, "request failed", slog.String("method", req.Method),
			slog.String("path", req.URL.Path), slog.Int("status", status), slog.String("error", e.Error()))
	}
	h := w.Header()
	h.Del("Docker-Content-Digest")
	h.Del("ETag")
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	body := errorBody(e)
	if req.Method == http.MethodHead {
		h.Set(ErrorHeader, headerText(e.Code.Descriptor().Value, e.message()))
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.status())
	if req.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have left
	}
}

// ErrorHeader tells what is wrong in answers to HEAD, which have no body: CODE: sentence and remedy. Clients show the
// status alone; curl -I and logs of proxies show the header.
const ErrorHeader = "X-Atcr-Error"

// headerText is a message that fits into a header: printable ASCII, at most 512 bytes.
func headerText(code, message string) string {
	text := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, code+": "+message)
	return text[:min(len(text), 512)]
}

// message is what a client reads.
func (e *Error) message() string {
	if e.Remedy == "" {
		return e.Sentence
	}
	return e.Sentence + " " + e.Remedy
}

func errorBody(e *Error) []byte {
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, err := json.Marshal(map[string][]item{"errors": {{e.Code.Descriptor().Value, e.message(), e.Detail}}})
	if err != nil {
		return []byte(`{"errors":[{"code":"UNKNOWN","message":"The error could not be written."}]}`)
	}
	return append(body, '\n')
}
