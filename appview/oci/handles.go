package oci

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/distribution/distribution/v3/registry/api/errcode"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/alias"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/index"
)

// byName says that the name of a repository may be trusted to mean what it meant before: a handle that has just moved to
// another account names nothing, until that account pushes here or a week is over.
func (r *Registry) byName(q *request) error {
	if !alias.IsHandle(q.Name.Owner) {
		return nil
	}
	t, err := r.Handles.Tenure(q.Context(), q.Name.Owner, q.Owner)
	if err != nil || !t.Held(r.Handles.Now()) {
		return err
	}
	now, former := pathOf(q.Owner), "its former owner"
	if len(t.Former) > 0 {
		former = pathOf(t.Former[0])
	}
	return &Error{Code: errcode.ErrorCodeManifestUnknown,
		Detail: map[string]string{"name": q.Name.String(), "owner": string(q.Owner), "until": t.HeldUntil.UTC().Format(time.RFC3339)},
		Sentence: "The handle " + q.Name.Owner + " has moved to another account, so its tags are not served until " +
			t.HeldUntil.UTC().Format(time.RFC1123) + ", or until that account pushes here.",
		Remedy: "Pull by digest, or by account: " + former + " is who had the handle before, " + now + " is who has it now."}
}

// pathOf is an account as the first component of repository names.
func pathOf(did syntax.DID) string {
	if p, err := alias.Encode(did); err == nil {
		return p
	}
	return string(did)
}

// byDigest looks something up for the owner of the name, and, when there is nothing, for those who had the handle before:
// what a digest names is the same whoever has the handle. q.Owner is then the one who has it. Whoever may push asks in
// order to know what to push, and is answered for the present owner only.
func (r *Registry) byDigest(q *request, look func() error) error {
	err := look()
	if !absent(err) || !alias.IsHandle(q.Name.Owner) || q.Grant.Allows("repository", q.Name.String(), string(push)) {
		return err
	}
	t, terr := r.Handles.Tenure(q.Context(), q.Name.Owner, q.Owner)
	if terr != nil {
		return terr
	}
	return r.byFormer(q, t, err, look)
}

// byAuthor is byDigest for what an account says of a digest of others. While a handle is held, the account that has just
// got it says nothing: its referrers would stand in for signatures of the former owner's.
func (r *Registry) byAuthor(q *request, look func() error) error {
	if alias.IsHandle(q.Name.Owner) && !q.Grant.Allows("repository", q.Name.String(), string(push)) {
		t, err := r.Handles.Tenure(q.Context(), q.Name.Owner, q.Owner)
		if err != nil {
			return err
		}
		if t.Held(r.Handles.Now()) {
			return r.byFormer(q, t, index.ErrNotFound, look)
		}
	}
	return r.byDigest(q, look)
}

// byFormer looks something up for those who had the handle before; err is the answer when they have nothing.
func (r *Registry) byFormer(q *request, t index.Tenure, err error, look func() error) error {
	now := q.Owner
	for _, former := range t.Former {
		q.Owner = former
		ferr := look()
		if ferr == nil {
			return nil
		}
		if !absent(ferr) && !errors.Is(ferr, atproto.ErrUnknownIdentity) && absent(err) {
			err = ferr // maybe it is there: a private hold, a PDS that is down
		}
	}
	q.Owner = now
	return err
}

func absent(err error) bool {
	kind, ok := holdclient.KindOf(err)
	return errors.Is(err, index.ErrNotFound) || ok && kind == holdclient.NotFound
}

// served notes whose image a handle named. A pull does not fail for it.
func (r *Registry) served(ctx context.Context, q *request) {
	if !alias.IsHandle(q.Name.Owner) {
		return
	}
	if err := r.Handles.Served(ctx, q.Name.Owner, q.Owner); err != nil {
		r.Log.WarnContext(ctx, "whose image a handle named was not noted", "handle", q.Name.Owner, "error", err)
	}
}
