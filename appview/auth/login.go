package auth

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/alias"
	"atcr.io/operator/appview/store"
)

// Directory resolves who logs in; [atproto.Directory] is one.
type Directory interface {
	Resolve(ctx context.Context, id syntax.AtIdentifier) (*atproto.Identity, error)
}

// Passwords verifies a secret of an identity; the app-password sessions are one, device secrets will be another. Both
// methods fail with [atproto.ErrUnauthorized], [*atproto.TooManyRequests] or [atproto.ErrUnavailable].
type Passwords interface {
	// Check gives a name for the secret that says nothing about it. Guesses from one network cost those from another
	// nothing; see [network.Of].
	Check(ctx context.Context, who *atproto.Identity, secret, from string) (credential string, err error)
	// Confirm says whether the secret that Check named so is still good.
	Confirm(ctx context.Context, who *atproto.Identity, credential string) error
}

// MethodAppPassword is the auth_method of tokens for app passwords.
const MethodAppPassword = "app_password"

// login turns a user name and password into a subject and the name of its credential, or an [*apiError].
func (h *Handler) login(ctx context.Context, user, password, from string) (_ Subject, credential string, _ error) {
	id, err := alias.Owner(user)
	if err != nil {
		return Subject{}, "", unauthorized("The user name is neither a handle nor a DID.",
			"Log in with a handle such as alice.example.com, or a DID, and an app password.", err)
	}
	who, err := h.identity(ctx, id)
	if err != nil {
		return Subject{}, "", err
	}
	if credential, err = h.Passwords.Check(ctx, who, password, from); err != nil {
		return Subject{}, "", refusal(err, id, fmt.Sprintf("The personal data server of %s refused the app password.", id),
			"Make a new app password in the settings of the account, and log in with it.")
	}
	return Subject{DID: who.DID, Handle: who.Handle, Method: MethodAppPassword}, credential, nil
}

// identity resolves who logs in, or fails with an [*apiError].
func (h *Handler) identity(ctx context.Context, id syntax.AtIdentifier) (*atproto.Identity, error) {
	who, err := h.Directory.Resolve(ctx, id)
	switch {
	case errors.Is(err, atproto.ErrUnknownIdentity):
		return nil, unauthorized(fmt.Sprintf("There is no account %s, or its handle and DID do not name each other.", id),
			"Check the spelling of the handle, or log in with the DID.", err)
	case err != nil:
		return nil, unavailable(fmt.Sprintf("The identity %s could not be resolved just now.", id),
			"Try again in a moment; if it persists, the directory of the account may be down.", err)
	case who.PDSEndpoint == "":
		return nil, unauthorized(fmt.Sprintf("The DID document of %s names no personal data server.", id),
			"Log in with an account that has one.", nil)
	}
	return who, nil
}

// refusal is the answer to an error of [Passwords]; what and remedy are for a secret that is no good.
func refusal(err error, id syntax.AtIdentifier, what, remedy string) error {
	var limit *atproto.TooManyRequests
	switch {
	case errors.As(err, &limit):
		return tooManyRequests(limit.RetryAfter, err)
	case errors.Is(err, atproto.ErrUnauthorized), errors.Is(err, atproto.ErrRefused), errors.Is(err, atproto.ErrUnknownIdentity):
		return unauthorized(what, remedy, err)
	case errors.Is(err, store.ErrFull):
		return unavailable("The registry has no disk space left for its database.", "Ask its operator to make room; anonymous pulls need no login.", err)
	case errors.Is(err, store.ErrUnavailable):
		return unavailable("The registry's database cannot be reached.", "Try again in a moment; anonymous pulls need no login.", err)
	default:
		return unavailable(fmt.Sprintf("The personal data server of %s could not be reached.", id),
			"Try again in a moment; anonymous pulls go on working.", err)
	}
}
