package atproto

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// What callers tell apart. Every error of this package that a user can do something about matches one of these
// with errors.Is; anything else is ours.
var (
	// ErrUnknownIdentity: the handle or DID does not exist, or handle and DID do not name each other.
	ErrUnknownIdentity = errors.New("unknown identity")
	// ErrUnavailable: a PLC directory, handle resolver or PDS could not be asked. Trying later may help.
	ErrUnavailable = errors.New("unavailable")
	// ErrRecordNotFound: the PDS has no such record.
	ErrRecordNotFound = errors.New("record not found")
	// ErrBlobNotFound: the PDS has no such blob, or no record names it yet.
	ErrBlobNotFound = errors.New("blob not found")
	// ErrInvalidSwap: the repository moved on since it was read; read again and retry.
	ErrInvalidSwap = errors.New("the repository changed meanwhile")
	// ErrBlobTooLarge: the PDS's blob limit (5 MiB on the reference PDS), or the limit the caller gave.
	ErrBlobTooLarge = errors.New("blob too large")
	// ErrUnauthorized: no live session, or the PDS refuses it. The user must log in again.
	ErrUnauthorized = errors.New("not logged in at the PDS")
	// ErrAudienceRefused: the PDS signs no service tokens for this service's DID. It is also an ErrRefused.
	ErrAudienceRefused = errors.New("the PDS signs no service token for this DID")
	// ErrRefused: the PDS understood and said no for another reason.
	ErrRefused = errors.New("the PDS refused")
)

// PDSError is an answer of a PDS that is not a success. It holds the XRPC error name and never the message, which
// is free text of a server we do not control.
type PDSError struct {
	Doing      string        // e.g. "com.atproto.repo.applyWrites"
	Status     int           // HTTP status
	Name       string        // XRPC error name, at most 64 letters and digits; empty when there was none
	RetryAfter time.Duration // with status 429 and 503, when the PDS said so
	kind       error
}

func (e *PDSError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("%s: %v (status %d)", e.Doing, e.kind, e.Status)
	}
	return fmt.Sprintf("%s: %v (status %d, %s)", e.Doing, e.kind, e.Status, e.Name)
}

func (e *PDSError) Unwrap() error { return e.kind }

// TooManyRequests says that a PDS limits us, and for how long.
type TooManyRequests struct {
	Doing      string
	RetryAfter time.Duration // at least one second
}

func (e *TooManyRequests) Error() string {
	return fmt.Sprintf("%s: the PDS limits requests; retry after %s", e.Doing, e.RetryAfter)
}

// pdsError reads an unsuccessful answer; name is the XRPC error name found in its body.
func pdsError(doing string, status int, name string, h http.Header) error {
	retry := retryAfter(h, time.Now())
	if status == http.StatusTooManyRequests {
		return &TooManyRequests{Doing: doing, RetryAfter: max(retry, time.Second)}
	}
	e := &PDSError{Doing: doing, Status: status, Name: name, RetryAfter: retry, kind: ErrRefused}
	switch {
	case name == "RecordNotFound":
		e.kind = ErrRecordNotFound
	case name == "BlobNotFound":
		e.kind = ErrBlobNotFound
	case name == "InvalidSwap":
		e.kind = ErrInvalidSwap
	case name == "RepoNotFound", name == "RepoDeactivated", name == "RepoTakendown", name == "RepoSuspended":
		e.kind = ErrUnknownIdentity
	case name == "BlobTooLarge", status == http.StatusRequestEntityTooLarge:
		e.kind = ErrBlobTooLarge
	case status == http.StatusUnauthorized, name == "ExpiredToken", name == "InvalidToken", name == "AuthMissing",
		name == "AuthenticationRequired", name == "AccountTakedown":
		e.kind = ErrUnauthorized
	case status >= 500:
		e.kind = ErrUnavailable
	}
	return e
}

// retryAfter reads Retry-After (RFC 9110, seconds or a date) and the RateLimit-Reset of the reference PDS (Unix
// seconds), at most one day.
func retryAfter(h http.Header, now time.Time) time.Duration {
	d := time.Duration(0)
	if v := h.Get("Retry-After"); v != "" {
		if n, err := strconv.ParseInt(v, 10, 32); err == nil {
			d = time.Duration(n) * time.Second
		} else if t, err := http.ParseTime(v); err == nil {
			d = t.Sub(now)
		}
	} else if n, err := strconv.ParseInt(h.Get("RateLimit-Reset"), 10, 64); err == nil && n > 0 {
		d = time.Unix(n, 0).Sub(now)
	}
	return min(max(d, 0), 24*time.Hour).Round(time.Second)
}
