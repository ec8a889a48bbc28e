package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/store"
)

// Life of a refresh token. It stands for the login it was made for, and ends with it when the PDS says that the app
// password was revoked.
const (
	refreshIdle = 90 * 24 * time.Hour  // without use
	refreshLife = 365 * 24 * time.Hour // however much it is used
	refreshNote = 24 * time.Hour       // how exactly its use is noted: a pull must not cost a write
	refreshKeep = 1000                 // of one app password; of more, those that were used last
)

// refreshPrefix lets people and secret scanners see what a string is.
const refreshPrefix = "atcr_rt_"

const maxClient = 64 // bytes of a client_id that are kept

// RefreshStore keeps refresh tokens, shared by all replicas; [store.DB] is one.
type RefreshStore interface {
	SaveRefreshToken(ctx context.Context, t store.RefreshToken, keep int) error
	RefreshToken(ctx context.Context, hash string) (*store.RefreshToken, error)
	TouchRefreshToken(ctx context.Context, hash string, at time.Time) error
	DeleteRefreshTokens(ctx context.Context, credential string) error
	SweepRefreshTokens(ctx context.Context, idle, born time.Time) error
}

// RefreshTokens makes and looks up refresh tokens: 256 random bits, of which only a hash is stored.
type RefreshTokens struct {
	Store RefreshStore
	Now   func() time.Time
}

// Make makes a token for the login that credential names. client is what the client calls itself, and may be empty.
func (t *RefreshTokens) Make(ctx context.Context, did syntax.DID, credential, client string) (string, error) {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails, see its documentation
	token := refreshPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
	now := t.Now()
	return token, t.Store.SaveRefreshToken(ctx, store.RefreshToken{Hash: refreshHash(token), Credential: credential, DID: string(did),
		Client: strings.ToValidUTF8(client[:min(len(client), maxClient)], ""), CreatedAt: now, UsedAt: now}, refreshKeep)
}

// find is the row of a token that lives, or [store.ErrNotFound].
func (t *RefreshTokens) find(ctx context.Context, token string) (*store.RefreshToken, error) {
	if !strings.HasPrefix(token, refreshPrefix) {
		return nil, fmt.Errorf("refresh token: %w", store.ErrNotFound)
	}
	row, err := t.Store.RefreshToken(ctx, refreshHash(token))
	if err != nil {
		return nil, err
	}
	if now := t.Now(); now.After(row.UsedAt.Add(refreshIdle)) || now.After(row.CreatedAt.Add(refreshLife)) {
		return nil, fmt.Errorf("refresh token: %w: it has expired", store.ErrNotFound)
	}
	return row, nil
}

// used notes, once a day, that a token is in use.
func (t *RefreshTokens) used(ctx context.Context, row *store.RefreshToken) error {
	now := t.Now()
	if now.Before(row.UsedAt.Add(refreshNote)) {
		return nil
	}
	return t.Store.TouchRefreshToken(ctx, row.Hash, now)
}

// Sweep removes tokens that have expired.
func (t *RefreshTokens) Sweep(ctx context.Context) error {
	now := t.Now()
	return t.Store.SweepRefreshTokens(ctx, now.Add(-refreshIdle), now.Add(-refreshLife))
}

func refreshHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// redeem turns a refresh token into the subject it was made for, or an [*apiError]. Its handle is looked up again: an
// account that lost it must not go on pushing under it.
func (h *Handler) redeem(ctx context.Context, token, account string) (Subject, error) {
	const remedy = "Log in again with an app password, for example with docker login."
	row, err := h.Refresh.find(ctx, token)
	if errors.Is(err, store.ErrNotFound) {
		return Subject{}, unauthorized("This refresh token is unknown, or it has expired.", remedy, err)
	}
	if err != nil {
		return Subject{}, err
	}
	did := syntax.DID(row.DID)
	who, err := h.identity(ctx, did.AtIdentifier())
	if err != nil {
		return Subject{}, err
	}
	if account != "" && !strings.EqualFold(account, row.DID) && !strings.EqualFold(account, string(who.Handle)) {
		return Subject{}, badRequest("The account parameter names another user than the refresh token. Leave it out, or log in as that user.")
	}
	if err := h.Passwords.Confirm(ctx, who, row.Credential); err != nil {
		if errors.Is(err, atproto.ErrUnauthorized) {
			if err := h.Refresh.Store.DeleteRefreshTokens(ctx, row.Credential); err != nil {
				return Subject{}, err
			}
		}
		return Subject{}, refusal(err, did.AtIdentifier(), "The app password behind this refresh token was revoked, or its session has ended.", remedy)
	}
	if err := h.Refresh.used(ctx, row); err != nil {
		return Subject{}, err
	}
	return Subject{DID: who.DID, Handle: who.Handle, Method: MethodAppPassword}, nil
}
