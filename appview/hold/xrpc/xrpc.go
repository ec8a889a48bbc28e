// Package xrpc writes the answers of an XRPC service and reads the JSON bodies of its procedures.
//
// Errors have a name from the method's lexicon and a sentence that ends with what to do about it.
package xrpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"

	"atcr.io/operator/appview/sqlitedb"
)

// MaxJSON is the most bytes of a JSON body that ReadJSON takes. MaxManifest is that of a method that takes the parts of
// a manifest, which may have 10,000.
const (
	MaxJSON     = 1 << 20
	MaxManifest = 8 << 20
)

// Error is an XRPC error answer: {"error": Name, "message": Message} with an HTTP status.
type Error struct {
	Status  int
	Name    string
	Message string
	Detail  map[string]any // further fields of the answer
	Cause   error          // for the log, never for the client
}

// Errorf makes an error answer.
func Errorf(status int, name, format string, args ...any) *Error {
	return &Error{Status: status, Name: name, Message: fmt.Sprintf(format, args...)}
}

// Because keeps what went wrong for the log.
func (e *Error) Because(err error) *Error {
	e.Cause = err
	return e
}

// With adds a field to the answer, for programs: what the sentence says to people.
func (e *Error) With(field string, value any) *Error {
	if e.Detail == nil {
		e.Detail = map[string]any{}
	}
	e.Detail[field] = value
	return e
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Name + ": " + e.Cause.Error()
	}
	return e.Name + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// AsError is the answer to an error: 507 when a disk is full, itself when it is an [Error], else 500 without detail.
func AsError(err error) *Error {
	if sqlitedb.DiskFull(err) {
		return Errorf(http.StatusInsufficientStorage, "StorageFull", "The hold's disk is full; its captain must free space or add some. Then try again.").Because(err)
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Errorf(http.StatusInternalServerError, "InternalServerError",
		"The hold failed to answer; its log has the reason. Try again, then ask its captain.").Because(err)
}

// retryAfter is how many seconds later a client should try again what is unavailable now.
const retryAfter = "5"

// WriteError writes the answer to an error.
func WriteError(w http.ResponseWriter, err error) {
	e := AsError(err)
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="atproto service token"`)
	}
	if e.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	body := map[string]any{}
	maps.Copy(body, e.Detail)
	body["error"], body["message"] = e.Name, e.Message
	WriteJSON(w, e.Status, body)
}

// WriteJSON writes a JSON answer.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":"InternalServerError","message":"The answer cannot be encoded."}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", fmt.Sprint(len(b)))
	w.WriteHeader(status)
	w.Write(b)
}

// ReadJSON decodes a JSON body of at most [MaxJSON] bytes. Unknown fields are ignored, as lexicons evolve.
func ReadJSON(w http.ResponseWriter, r *http.Request, v any) error {
	return ReadJSONOf(w, r, v, MaxJSON)
}

// ReadJSONOf is ReadJSON for a body of at most limit bytes.
func ReadJSONOf(w http.ResponseWriter, r *http.Request, v any, limit int64) error {
	if mt, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); mt != "" && !strings.EqualFold(strings.TrimSpace(mt), "application/json") {
		return Errorf(http.StatusUnsupportedMediaType, "InvalidRequest", "The body must be application/json.")
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return Errorf(http.StatusRequestEntityTooLarge, "PayloadTooLarge", "The body is larger than %d bytes; send less.", tooLarge.Limit)
		}
		return Errorf(http.StatusBadRequest, "InvalidRequest", "The body ended early; send it again.").Because(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return Errorf(http.StatusBadRequest, "InvalidRequest", "The body is not the JSON object of this method; compare it with the lexicon.").Because(err)
	}
	return nil
}
