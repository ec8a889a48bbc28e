package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/dustin/go-humanize"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci/upload"
	"atcr.io/operator/appview/store"
)

// translate makes an answer of an error of the layers below. Each row is one thing that can go wrong for a user.
func translate(err error) *Error {
	var hold *holdclient.Error
	var token *holdclient.TokenError
	var limited *atproto.TooManyRequests
	var body *upload.BodyError
	var missing *index.MissingEntry
	var size *index.WrongSize
	switch {
	case errors.As(err, &missing):
		return unknownReference("manifest", missing.Digest)
	case errors.As(err, &size):
		return invalidManifest(size.Error())
	case errors.As(err, &body):
		return &Error{Code: errcode.ErrorCodeBlobUploadInvalid, Status: http.StatusBadRequest, Err: err,
			Sentence: "The request body ended before all of its bytes had arrived.",
			Remedy:   "Nothing of it was kept; send it again."}
	case errors.As(err, &limited):
		return &Error{Code: errcode.ErrorCodeTooManyRequests, RetryAfter: limited.RetryAfter, Err: err,
			Sentence: "Your PDS limits the number of requests.", Remedy: "Try again after the time in Retry-After."}
	case errors.As(err, &token) && errors.Is(token.Err, atproto.ErrRefused):
		return fail(errcode.ErrorCodeDenied, "Your PDS gives no token for the hold "+string(token.Hold)+".",
			"PDSes sign for holds with a host name and no port (localhost excepted): ask the operator to give the hold such a DID.").because(err)
	case errors.As(err, &token):
		e := translate(token.Err)
		e.Err = err
		return e
	case errors.As(err, &hold):
		return translateHold(hold)
	case errors.Is(err, index.ErrNoHold):
		return fail(errcode.ErrorCodeDenied, "There is no hold to keep your blobs in.",
			"Set defaultHold in your io.atcr.sailor.profile record, or ask the operator to set ATCR_DEFAULT_HOLD_DID.").because(err)
	case errors.Is(err, index.ErrBusy), errors.Is(err, upload.ErrConflict), errors.Is(err, atproto.ErrInvalidSwap),
		errors.Is(err, atproto.ErrRecordNotFound):
		return &Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: time.Second, Err: err,
			Sentence: "Somebody else is changing the same thing at the same time.", Remedy: "Try again."}
	case errors.Is(err, index.ErrNotFound):
		return fail(errcode.ErrorCodeManifestUnknown, "There is no such manifest in this repository.",
			"List the tags to see what there is, or push it first.").because(err)
	case errors.Is(err, atproto.ErrBlobNotFound):
		return fail(errcode.ErrorCodeManifestUnknown, "The owner's PDS has a record of the manifest, but not its bytes.",
			"Ask the owner to push the image again.").because(err)
	case errors.Is(err, index.ErrCorrupt):
		return &Error{Code: errcode.ErrorCodeManifestUnverified, Status: http.StatusBadGateway, Err: err,
			Sentence: "The record on the owner's PDS does not match the manifest's bytes, so it is not served.",
			Remedy:   "Ask the owner to push the image again."}
	case errors.Is(err, index.ErrTooManyRepositories):
		return fail(errcode.ErrorCodeManifestInvalid, "You have this manifest in as many repositories as one record can list.",
			"Delete it from some of them, or push a manifest that differs, for example by an annotation.").because(err)
	case errors.Is(err, upload.ErrUnknown):
		return unknownUpload().because(err)
	case errors.Is(err, upload.ErrDigest):
		return wrongDigest(nil).because(err)
	case errors.Is(err, upload.ErrAlgorithm):
		return fail(errcode.ErrorCodeDigestInvalid, "The upload was begun for digests of another algorithm.",
			"Start again, with digest-algorithm=sha512 in the query of POST for a sha512 digest.").because(err)
	case errors.Is(err, upload.ErrTooMany):
		return &Error{Code: errcode.ErrorCodeTooManyRequests, RetryAfter: 10 * time.Second, Err: err,
			Sentence: "You have " + strconv.Itoa(upload.MaxOpen) + " uploads open already.",
			Remedy:   "Wait until some have ended, or cancel them; those that stand still for ten minutes make room by themselves."}
	case errors.Is(err, upload.ErrNoMemory):
		return &Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: 10 * time.Second, Err: err,
			Sentence: "The registry is busy with other uploads.", Remedy: "Try again after the time in Retry-After; nothing of this chunk was kept."}
	case errors.Is(err, upload.ErrManyParts):
		return &Error{Code: errcode.ErrorCodeBlobUploadInvalid, Status: http.StatusBadRequest, Err: err,
			Sentence: "The upload came in more chunks than a hold takes.", Remedy: "Start again with larger chunks."}
	case errors.Is(err, upload.ErrShortPart):
		return &Error{Code: errcode.ErrorCodeBlobUploadInvalid, Status: http.StatusBadRequest, Err: err,
			Sentence: "An earlier chunk was smaller than the hold allows.", Remedy: "Start again with chunks of at least OCI-Chunk-Min-Length bytes."}
	case errors.Is(err, atproto.ErrUnauthorized):
		return fail(errcode.ErrorCodeDenied, "The session with your PDS has ended.",
			"Log in again (docker login) with your handle and an app password.").because(err)
	case errors.Is(err, atproto.ErrBlobTooLarge):
		return &Error{Code: errcode.ErrorCodeSizeInvalid, Status: http.StatusRequestEntityTooLarge, Err: err,
			Sentence: "Your PDS refuses a manifest of this size.", Remedy: "Use a smaller manifest, for example fewer layers or annotations."}
	case errors.Is(err, store.ErrFull):
		return &Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusInsufficientStorage, Err: err,
			Sentence: "The registry has no disk space left for its database.", Remedy: "Ask its operator to make room, then try again; pulls of what the registry knows go on."}
	case errors.Is(err, store.ErrUnavailable):
		return &Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: 5 * time.Second, Err: err,
			Sentence: "The registry's database cannot be reached.", Remedy: "Try again later; the operator finds the cause in the server's log."}
	case errors.Is(err, atproto.ErrUnavailable):
		return &Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: 5 * time.Second, Err: err,
			Sentence: "The owner's PDS, or the directory that names it, cannot be reached.", Remedy: "Try again later; what was pushed before stays."}
	case errors.Is(err, atproto.ErrRefused), errors.Is(err, atproto.ErrUnknownIdentity):
		return fail(errcode.ErrorCodeDenied, "The owner's PDS refused the request.",
			"Check that the account is active and that the app password may write records.").because(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: 5 * time.Second, Err: err,
			Sentence: "A service behind the registry did not answer in time.", Remedy: "Try again."}
	}
	return &Error{Code: errcode.ErrorCodeUnknown, Err: err, Sentence: "The registry failed.",
		Remedy: "Try again; the operator finds the cause in the server's log."}
}

func translateHold(h *holdclient.Error) *Error {
	name := "The hold " + string(h.Hold)
	switch h.Kind {
	case holdclient.Refused:
		return fail(errcode.ErrorCodeDenied, name+" does not let you do this.",
			"Ask its captain to add you to the crew, or set another defaultHold in your io.atcr.sailor.profile record.").because(h)
	case holdclient.NeedsLogin:
		return fail(errcode.ErrorCodeDenied, name+" does not accept your login.",
			"It may be private: ask its captain to add you to the crew, and log in again.").because(h)
	case holdclient.NotFound:
		return unknownBlob(nil).because(h)
	case holdclient.InvalidDigest:
		return wrongDigest(nil).because(h)
	case holdclient.InvalidUpload:
		return unknownUpload().because(h)
	case holdclient.QuotaExceeded:
		e := fail(errcode.ErrorCodeDenied, name+" has no space left for you.",
			"Delete images that you no longer need, or ask its captain for more.").because(h)
		if at := h.Detail; at.Limit > 0 {
			e.Sentence = fmt.Sprintf("%s has no space left for you: you use %s of %s", name, size(at.TotalSize), size(at.Limit))
			if at.Needed > 0 {
				e.Sentence += ", and this needs " + size(at.Needed) + " more"
			}
			e.Sentence += "."
		}
		return e
	case holdclient.OtherSize:
		return invalidManifest("a blob that it names has another size in the hold " + string(h.Hold)).because(h)
	case holdclient.InUse:
		return &Error{Code: errcode.ErrorCodeDenied, Status: http.StatusConflict, Err: h,
			Sentence: "A manifest that was just pushed, or is being pushed, names the blob.", Remedy: "Delete that manifest first."}
	case holdclient.StorageFull:
		return &Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusInsufficientStorage, Err: h,
			Sentence: name + " has no disk space left.", Remedy: "Ask its captain to make room, then push again."}
	case holdclient.RateLimited:
		return &Error{Code: errcode.ErrorCodeTooManyRequests, RetryAfter: max(h.RetryAfter, time.Second), Err: h,
			Sentence: name + " limits the number of requests.", Remedy: "Try again after the time in Retry-After."}
	case holdclient.Misconfigured:
		return &Error{Code: errcode.ErrorCodeUnavailable, Status: http.StatusBadGateway, Err: h,
			Sentence: name + " does not answer like a hold.", Remedy: "Ask its captain, or the operator of this registry, to check its address."}
	}
	return &Error{Code: errcode.ErrorCodeUnavailable, RetryAfter: max(h.RetryAfter, 5*time.Second), Err: h,
		Sentence: name + ", which keeps the blobs, cannot be reached.", Remedy: "Try again later, or ask its captain whether it is down."}
}

// size writes bytes for people.
func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

func unknownOwner(owner string, err error) error {
	if errors.Is(err, atproto.ErrUnknownIdentity) {
		return fail(errcode.ErrorCodeNameUnknown, "There is no account "+quote(owner)+".",
			"Repository names start with a handle (alice.example.com) or a DID (did_plc_...); check the spelling.").because(err)
	}
	return err
}

func unknownManifest(ref string) *Error {
	return fail(errcode.ErrorCodeManifestUnknown, "There is no manifest "+quote(ref)+" in this repository.",
		"List the tags to see what there is, or push it first.").with(map[string]string{"reference": clip(ref)})
}

func unknownBlob(detail any) *Error {
	return fail(errcode.ErrorCodeBlobUnknown, "There is no such blob in this repository.", "Push it first.").with(detail)
}

func unknownUpload() *Error {
	return fail(errcode.ErrorCodeBlobUploadUnknown, "There is no such upload; it may have ended or expired.",
		"Start the upload again with a POST.")
}

func wrongDigest(detail any) *Error {
	return fail(errcode.ErrorCodeDigestInvalid, "The bytes that arrived do not have this digest; nothing was kept.",
		"Compute the digest again and repeat the upload.").with(detail)
}

func invalidDigest(s string) *Error {
	return fail(errcode.ErrorCodeDigestInvalid, quote(s)+" is not a digest.",
		"Write sha256: and 64, or sha512: and 128, lower-case hexadecimal digits.")
}
