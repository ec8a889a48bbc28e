package pds

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

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
	var x *XRPCError
	if !errors.As(err, &x) {
		x = asXRPC(err)
	}
	WriteJSON(w, x.Status, map[string]string{"error": x.Name, "message": x.Message})
}

// asXRPC maps the engine's errors to the answers of the reference PDS. A create over an existing key is a 500 there.
func asXRPC(err error) *XRPCError {
	switch {
	case errors.Is(err, ErrRepoNotFound):
		return &XRPCError{http.StatusBadRequest, "RepoNotFound", "this server does not host the repository"}
	case errors.Is(err, ErrRecordNotFound):
		return &XRPCError{http.StatusBadRequest, "RecordNotFound", "there is no such record"}
	case errors.Is(err, ErrInvalidSwap):
		return &XRPCError{http.StatusBadRequest, "InvalidSwap", err.Error()}
	case errors.Is(err, ErrInvalidRecord), errors.Is(err, ErrTooManyWrites):
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
