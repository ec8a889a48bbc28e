package pds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
)

const xrpcPrefix = "/xrpc/"

// Method is one XRPC method: a query is a GET, a procedure a POST. Serve returns an error instead of answering it.
type Method struct {
	Verb  string
	Serve func(http.ResponseWriter, *http.Request) error
}

// Methods is a route table, by NSID.
type Methods map[string]Method

// Handler serves the table under /xrpc/; other paths and methods go to next, or are 501 MethodNotImplemented without it.
func (m Methods) Handler(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nsid, ok := strings.CutPrefix(r.URL.Path, xrpcPrefix)
		method, known := m[nsid]
		switch {
		case (!ok || !known) && next != nil:
			next.ServeHTTP(w, r)
			return
		case !ok:
			http.NotFound(w, r)
			return
		}
		// The API is public and has no cookies: any web page may read it.
		w.Header().Set("Access-Control-Allow-Origin", "*")
		switch {
		case r.Method == http.MethodOptions:
			w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, POST")
			w.Header().Set("Access-Control-Allow-Headers", "*, Authorization")
			w.Header().Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		case !known:
			WriteError(w, &XRPCError{http.StatusNotImplemented, "MethodNotImplemented", "Method Not Implemented"})
			return
		case r.Method != method.Verb && (method.Verb != http.MethodGet || r.Method != http.MethodHead):
			WriteError(w, InvalidRequest("Incorrect HTTP method (%s) expected %s", r.Method, method.Verb))
			return
		}
		if err := method.Serve(w, r); err != nil {
			if asXRPC(err).Status >= http.StatusInternalServerError {
				log.Error("an XRPC call failed", "method", nsid, "error", err)
			}
			WriteError(w, err)
		}
	})
}

// ReadJSON reads a procedure's input of at most limit bytes.
func ReadJSON(w http.ResponseWriter, r *http.Request, limit int64, into any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return InvalidRequest("Wrong request encoding (Content-Type): it must be application/json")
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		// The reference PDS has this name for JSON, and PayloadTooLarge for blobs.
		return &XRPCError{http.StatusRequestEntityTooLarge, "PayloadTooLargeError", "request entity too large"}
	}
	if err != nil {
		return InvalidRequest("the request body could not be read")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return InvalidRequest("Input is not the JSON object that the method takes")
	}
	return nil
}

// XRPCError is an error with its XRPC answer: {"error": Name, "message": Message}.
type XRPCError struct {
	Status  int
	Name    string
	Message string
}

func (e *XRPCError) Error() string { return e.Name + ": " + e.Message }

// InvalidRequest is the 400 that XRPC answers bad input with.
func InvalidRequest(format string, args ...any) *XRPCError {
	return &XRPCError{Status: http.StatusBadRequest, Name: "InvalidRequest", Message: fmt.Sprintf(format, args...)}
}

// WriteJSON answers with a JSON body.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	// The client is gone when this fails: there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}

// WriteError answers with the XRPC form of err; an error without one is 500 InternalServerError without detail.
func WriteError(w http.ResponseWriter, err error) {
	x := asXRPC(err)
	WriteJSON(w, x.Status, map[string]string{"error": x.Name, "message": x.Message})
}

// asXRPC maps the engine's errors to the answers of the reference PDS. A create over an existing key is a 500 there.
func asXRPC(err error) *XRPCError {
	var x *XRPCError
	switch {
	case errors.As(err, &x):
		return x
	case errors.Is(err, ErrRepoNotFound):
		return &XRPCError{http.StatusBadRequest, "RepoNotFound", "this server does not host the repository"}
	case errors.Is(err, ErrRecordNotFound):
		return &XRPCError{http.StatusBadRequest, "RecordNotFound", "there is no such record"}
	case errors.Is(err, ErrInvalidSwap):
		return &XRPCError{http.StatusBadRequest, "InvalidSwap", err.Error()}
	case errors.Is(err, ErrInvalidRecord), errors.Is(err, ErrTooManyWrites), errors.Is(err, ErrInvalidRequest):
		return &XRPCError{http.StatusBadRequest, "InvalidRequest", err.Error()}
	case errors.Is(err, ErrBlobNotFound):
		return &XRPCError{http.StatusBadRequest, "BlobNotFound", "there is no such blob"}
	case errors.Is(err, ErrBlobMismatch):
		return &XRPCError{http.StatusBadRequest, "InvalidMimeType", err.Error()}
	case errors.Is(err, ErrBlobTooLarge):
		return &XRPCError{http.StatusRequestEntityTooLarge, "PayloadTooLarge", "request entity too large"}
	default:
		return &XRPCError{http.StatusInternalServerError, "InternalServerError", "Internal Server Error"}
	}
}
