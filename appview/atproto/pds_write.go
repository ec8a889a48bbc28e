package atproto

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/background"
)

// MaxWrites is the most writes of one applyWrites call.
const MaxWrites = 200

const writeTimeout = 60 * time.Second

// Blob is a blob reference in a record (atproto data model, "blob" type).
type Blob struct {
	CID      string
	MimeType string
	Size     int64
}

type blobJSON struct {
	Type string `json:"$type"`
	Ref  struct {
		Link string `json:"$link"`
	} `json:"ref"`
	MimeType string `json:"mimeType"`
	Size     int64  `json:"size"`
}

// MarshalJSON writes the typed form.
func (b Blob) MarshalJSON() ([]byte, error) {
	out := blobJSON{Type: "blob", MimeType: b.MimeType, Size: b.Size}
	out.Ref.Link = b.CID
	return json.Marshal(out)
}

// UnmarshalJSON reads the typed form and the legacy one ({cid, mimeType}).
func (b *Blob) UnmarshalJSON(raw []byte) error {
	var in struct {
		blobJSON
		CID string `json:"cid"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("blob reference: %w", err)
	}
	*b = Blob{CID: in.Ref.Link, MimeType: in.MimeType, Size: in.Size}
	if b.CID == "" {
		b.CID = in.CID
	}
	return nil
}

// Action is what a [Write] does.
type Action string

// The three writes of com.atproto.repo.applyWrites. There is no upsert: a create over an existing record and an
// update of a missing one both fail the whole batch.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// Write is one write of a batch. Value marshals to the record, with its $type; unused by Delete.
type Write struct {
	Action     Action
	Collection string
	RKey       string
	Value      any
}

// MarshalJSON writes the union member of com.atproto.repo.applyWrites.
func (w Write) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type       string `json:"$type"`
		Collection string `json:"collection"`
		RKey       string `json:"rkey"`
		Value      any    `json:"value,omitempty"`
	}{"com.atproto.repo.applyWrites#" + string(w.Action), w.Collection, w.RKey, w.Value})
}

// Commit is the head that a write made; empty when the PDS does not say (nothing changed, or an older PDS).
type Commit struct {
	CID string `json:"cid"`
	Rev string `json:"rev"`
}

// UploadBlob uploads b to the user's PDS. The PDS keeps it a few hours until a record names it.
func (p *PDS) UploadBlob(ctx context.Context, did syntax.DID, mediaType string, b []byte) (Blob, error) {
	var out struct {
		Blob Blob `json:"blob"`
	}
	err := p.procedure(ctx, did, "com.atproto.repo.uploadBlob", mediaType, b, &out)
	return out.Blob, err
}

// ApplyWrites applies at most [MaxWrites] writes atomically. With a swap (the CID of the head that was read) it
// fails with [ErrInvalidSwap] when anything in the repository changed since.
func (p *PDS) ApplyWrites(ctx context.Context, did syntax.DID, writes []Write, swap string) (Commit, error) {
	if len(writes) == 0 || len(writes) > MaxWrites {
		return Commit{}, fmt.Errorf("com.atproto.repo.applyWrites: %d writes, want 1 to %d", len(writes), MaxWrites)
	}
	in := struct {
		Repo     syntax.DID `json:"repo"`
		Validate bool       `json:"validate"` // PDSes do not know io.atcr.* and its record keys are no TIDs
		Writes   []Write    `json:"writes"`
		Swap     string     `json:"swapCommit,omitempty"`
	}{did, false, writes, swap}
	var out struct {
		Commit Commit `json:"commit"`
	}
	err := p.call(ctx, did, "com.atproto.repo.applyWrites", in, &out)
	return out.Commit, err
}

// PutRecord creates or replaces one record.
func (p *PDS) PutRecord(ctx context.Context, did syntax.DID, collection, rkey string, value any) (Commit, error) {
	in := struct {
		Repo       syntax.DID `json:"repo"`
		Collection string     `json:"collection"`
		RKey       string     `json:"rkey"`
		Validate   bool       `json:"validate"`
		Record     any        `json:"record"`
	}{did, collection, rkey, false, value}
	var out struct {
		Commit Commit `json:"commit"`
	}
	err := p.call(ctx, did, "com.atproto.repo.putRecord", in, &out)
	return out.Commit, err
}

type tokenKey struct {
	did syntax.DID
	aud string
}

type serviceToken struct {
	token string
	until time.Time
}

// serviceTokenMargin is how long before its end a cached service token is no longer handed out.
const serviceTokenMargin = 10 * time.Second

// ServiceToken asks the user's PDS for a service token (com.atproto.server.getServiceAuth) for aud, a service's
// DID, without lxm, as holds expect. Tokens are shared until ten seconds before they expire. The reference PDS signs
// for no did:web with a port but localhost's: [ErrAudienceRefused].
func (p *PDS) ServiceToken(ctx context.Context, did syntax.DID, aud string) (string, error) {
	key := tokenKey{did, aud}
	if t, ok := p.tokens.Get(key); ok && p.now().Before(t.until) {
		return t.token, nil
	}
	ch := p.flight.DoChan(string(did)+"\x00"+aud, func() (_ any, err error) {
		defer background.Caught(ctx, slog.Default(), "asking for a service token", &err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
		defer cancel()
		return p.fetchServiceToken(ctx, key)
	})
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("com.atproto.server.getServiceAuth: %w: %w", ErrUnavailable, ctx.Err())
	case r := <-ch:
		if r.Err != nil {
			return "", r.Err
		}
		return r.Val.(string), nil
	}
}

// ForgetServiceToken drops a cached token that a service refused.
func (p *PDS) ForgetServiceToken(did syntax.DID, aud string) { p.tokens.Remove(tokenKey{did, aud}) }

func (p *PDS) fetchServiceToken(ctx context.Context, key tokenKey) (string, error) {
	const method = "com.atproto.server.getServiceAuth"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/xrpc/"+method+"?"+url.Values{"aud": {key.aud}}.Encode(), nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", method, err)
	}
	var out struct {
		Token string `json:"token"`
	}
	if err := p.send(key.did, method, req, &out); err != nil {
		if errors.Is(err, ErrRefused) {
			err = fmt.Errorf("%w: %s: %w", ErrAudienceRefused, key.aud, err)
		}
		return "", err
	}
	exp, err := ExpiryOf(out.Token)
	if err != nil {
		return "", fmt.Errorf("%s: %w: the PDS answered no token", method, ErrUnavailable)
	}
	if until := exp.Add(-serviceTokenMargin); p.now().Before(until) {
		p.tokens.Add(key, serviceToken{out.Token, until})
	}
	return out.Token, nil
}

// ExpiryOf reads the exp of a JWT that somebody else will verify.
func ExpiryOf(token string) (time.Time, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, fmt.Errorf("not a JWT")
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}, fmt.Errorf("not a JWT")
	}
	var claims struct {
		Exp float64 `json:"exp"`
	}
	if err := json.Unmarshal(b, &claims); err != nil || claims.Exp <= 0 || claims.Exp > 1<<40 {
		return time.Time{}, fmt.Errorf("a JWT without exp")
	}
	return time.Unix(int64(claims.Exp), 0), nil
}

func (p *PDS) call(ctx context.Context, did syntax.DID, method string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return p.procedure(ctx, did, method, "application/json", b, out)
}

func (p *PDS) procedure(ctx context.Context, did syntax.DID, method, contentType string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/xrpc/"+method, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	req.Header.Set("Content-Type", contentType)
	return p.send(did, method, req, out)
}

func (p *PDS) send(did syntax.DID, method string, req *http.Request, out any) error {
	if p.sessions == nil {
		return fmt.Errorf("%s: %w", method, ErrUnauthorized)
	}
	resp, err := p.sessions.Do(req.Context(), did, req)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	return decode(method, resp, maxRecord, out)
}
