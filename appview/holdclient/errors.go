package holdclient

import (
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Kind says what a failed call means for the caller.
type Kind int

const (
	Unavailable   Kind = iota // not reached, or it failed: the same call may work later
	Refused                   // the hold knows who asks and says no
	NeedsLogin                // the hold wants to know who asks
	NotFound                  // no such blob for this owner
	InvalidDigest             // the bytes do not hash to the digest
	InvalidUpload             // the hold does not know the upload (expired, or not this user's)
	QuotaExceeded             // the user's space in the hold is used up
	RateLimited               // too many requests; RetryAfter says when again
	Misconfigured             // the hold cannot be found, or does not behave like one
	StorageFull               // the hold has no disk space left, for anybody
	OtherSize                 // the blob has another size than the manifest says
	InUse                     // a manifest that was just pushed, or is being pushed, names the blob
)

func (k Kind) String() string {
	return [...]string{"unavailable", "refused", "needs login", "not found", "invalid digest", "invalid upload",
		"quota exceeded", "rate limited", "misconfigured", "storage full", "other size", "in use"}[k]
}

// Error is a failed call to a hold. It never carries response bodies, tokens or query strings.
type Error struct {
	Kind       Kind
	Hold       syntax.DID
	Call       string // e.g. "io.atcr.hold.initiateUpload"
	Status     int    // HTTP status; 0 when there was no answer
	Name       string // XRPC error name; empty when the hold gave none
	RetryAfter time.Duration
	Detail     Detail
	Err        error
}

// Detail is what our holds say beside an error's name.
type Detail struct {
	Digest    string `json:"digest"`    // of the blob that is missing or has another size
	Size      int64  `json:"size"`      // that it has
	TotalSize int64  `json:"totalSize"` // bytes that the user's manifests use
	Needed    int64  `json:"needed"`    // bytes that this one adds
	Limit     int64  `json:"limit"`
}

func (e *Error) Error() string {
	s := fmt.Sprintf("hold %s: %s: %s", e.Hold, e.Call, e.Kind)
	if e.Status != 0 {
		s += fmt.Sprintf(" (status %d %s)", e.Status, e.Name)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of err when it is (or wraps) an [Error].
func KindOf(err error) (Kind, bool) {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind, true
	}
	return 0, false
}

// kindOfAnswer reads an XRPC error answer.
func kindOfAnswer(status int, name string) Kind {
	switch name {
	case "InvalidDigest":
		return InvalidDigest
	case "InvalidUploadId", "InvalidUploadID", "MissingParts", "InvalidPartNumber":
		return InvalidUpload
	case "QuotaExceeded":
		return QuotaExceeded
	case "SizeMismatch":
		return OtherSize
	case "BlobInUse":
		return InUse
	case "BlobNotFound":
		return NotFound
	case "AuthRequired":
		return NeedsLogin
	}
	switch {
	case status == 401:
		return NeedsLogin
	case status == 403:
		return Refused
	case status == 404:
		return NotFound
	case status == 413:
		return QuotaExceeded
	case status == 507:
		return StorageFull
	case status == 429:
		return RateLimited
	case status >= 500:
		return Unavailable
	}
	return Misconfigured
}
