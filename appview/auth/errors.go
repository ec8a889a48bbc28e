package auth

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
)

// apiError is an answer in the error form of the OCI Distribution specification. Message is a sentence and a remedy.
type apiError struct {
	status     int
	code       string
	message    string
	retryAfter time.Duration
	cause      error // for the log
}

func (e *apiError) Error() string {
	if e.cause != nil {
		return e.message + " " + e.cause.Error()
	}
	return e.message
}

func (e *apiError) Unwrap() error { return e.cause }

func unauthorized(what, remedy string, cause error) *apiError {
	return &apiError{status: http.StatusUnauthorized, code: "UNAUTHORIZED", message: what + " " + remedy, cause: cause}
}

func unavailable(what, remedy string, cause error) *apiError {
	return &apiError{status: http.StatusServiceUnavailable, code: "UNAVAILABLE", message: what + " " + remedy, retryAfter: 5 * time.Second, cause: cause}
}

func tooManyRequests(retry time.Duration, cause error) *apiError {
	return &apiError{
		status: http.StatusTooManyRequests, code: "TOOMANYREQUESTS", retryAfter: max(retry, time.Second), cause: cause,
		message: "There were too many logins of this account with passwords that are not known yet. Wait as long as Retry-After says; logins with a password that worked before are not limited.",
	}
}

func badRequest(message string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "UNSUPPORTED", message: message}
}

// write sends the OCI form, with the OAuth 2 members beside it for clients of the POST form.
func (e *apiError) write(w http.ResponseWriter, service string) {
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	oauth := map[int]string{http.StatusUnauthorized: "invalid_grant", http.StatusBadRequest: "invalid_request"}[e.status]
	if oauth == "" {
		oauth = "temporarily_unavailable"
	}
	h := w.Header()
	if e.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="`+quote(service)+`"`)
	}
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.retryAfter.Seconds()))))
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	json.NewEncoder(w).Encode(struct { //nolint:errcheck // the client is gone
		Errors      []one  `json:"errors"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{[]one{{e.code, e.message}}, oauth, e.message})
}
