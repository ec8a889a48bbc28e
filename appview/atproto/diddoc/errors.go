package diddoc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Error classes. They are stable, so conditions and metrics may carry them.
const (
	ClassBlockedAddress  = "BlockedAddress"
	ClassFetchFailed     = "FetchFailed"
	ClassInvalidDocument = "InvalidDocument"
	ClassDIDMismatch     = "DIDMismatch"
	ClassTimeout         = "Timeout"
	ClassTLSError        = "TLSError"
	ClassBadStatus       = "BadStatus"
)

// Error is an error with a class. Its text names what was being done, never what a server answered.
type Error struct {
	class string
	msg   string
	err   error
}

func (e *Error) Error() string {
	if e.err != nil {
		return e.msg + ": " + e.err.Error()
	}
	return e.msg
}

func (e *Error) Unwrap() error { return e.err }

// Class is one of the Class constants.
func (e *Error) Class() string { return e.class }

// Class is the class of err, ClassFetchFailed for an error without one, and empty for nil.
func Class(err error) string {
	if err == nil {
		return ""
	}
	var c interface{ Class() string }
	if errors.As(err, &c) {
		return c.Class()
	}
	return ClassFetchFailed
}

// classify gives an error of an http.Client its class, and drops the URL that net/url puts in front, whose query
// may hold a signature.
func classify(doing string, err error) error {
	var own *Error
	if errors.As(err, &own) {
		return &Error{class: own.class, msg: doing, err: own}
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	class := ClassFetchFailed
	var ne net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		class = ClassTimeout
	case isTLS(err):
		class = ClassTLSError
	}
	return &Error{class: class, msg: doing, err: err}
}

func isTLS(err error) bool {
	var (
		record   tls.RecordHeaderError
		verify   *tls.CertificateVerificationError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		alert    tls.AlertError
	)
	return errors.As(err, &record) || errors.As(err, &verify) || errors.As(err, &unknown) ||
		errors.As(err, &hostname) || errors.As(err, &invalid) || errors.As(err, &alert) ||
		strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") ||
		strings.Contains(err.Error(), "tls: ")
}

func blocked(format string, args ...any) error {
	return &Error{class: ClassBlockedAddress, msg: fmt.Sprintf(format, args...)}
}
