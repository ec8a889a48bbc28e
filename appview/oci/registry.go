package oci

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/distribution/distribution/v3/registry/api/errcode"

	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci/spec"
	"atcr.io/operator/appview/oci/upload"
	"atcr.io/operator/appview/pulls"
)

// Grant is what a verified token says.
type Grant interface {
	// Subject is the DID that logged in; empty for an anonymous token.
	Subject() syntax.DID
	// Allows says whether the token allows action on exactly this resource.
	Allows(kind, name, action string) bool
}

// Tokens verifies registry tokens, and says where to get one.
type Tokens interface {
	Verify(raw string) (Grant, error)
	// Challenge sets WWW-Authenticate; problem is empty or an error code of RFC 6750.
	Challenge(w http.ResponseWriter, r *http.Request, scope, problem string)
}

// Owners finds the DID that the first component of a repository name means: a handle, or a DID in a path form.
type Owners interface {
	Owner(ctx context.Context, component string) (syntax.DID, error)
	// Component is the first component of the names of did's repositories: its handle, else its DID in a path form.
	Component(ctx context.Context, did syntax.DID) (string, error)
}

// Config is what a [Registry] is made of; every field is needed.
type Config struct {
	Tokens      Tokens
	Owners      Owners
	Holds       *holdclient.Client
	Records     *index.Mirror
	Handles     *index.Handles
	Uploads     *upload.Uploader
	Pulls       *pulls.Counter
	DefaultHold func() syntax.DID // may be empty
	BodyIdle    time.Duration     // how long a request body may stand still
	Log         *slog.Logger
}

// Registry serves everything under /v2/.
type Registry struct {
	Config
	blobs  *blobCache
	bodies bodies
}

// New makes a registry.
func New(c Config) *Registry {
	return &Registry{Config: c, blobs: newBlobCache(), bodies: bodies{of: map[syntax.DID]int{}}}
}

// request is a request whose path, token and owner have been settled. Name and Ref are copies, and [request.param] gives
// copies: what the server remembers by them must not keep the line of the request, which may have tens of kilobytes.
type request struct {
	*http.Request
	Grant Grant
	Name  spec.Name  // as the client wrote it
	Owner syntax.DID // of Name; empty for /v2/ and the catalog
	Ref   string     // reference, digest or upload id, as sent
}

// param is the first value of a parameter of the query.
func (q *request) param(name string) string { return strings.Clone(q.URL.Query().Get(name)) }

func (q *request) reader() syntax.DID { return q.Grant.Subject() }

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := r.serve(w, req); err != nil {
		r.writeError(w, req, err)
	}
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) error {
	path := spec.ParsePath(req.URL.Path)
	methods, ok := table[path.Endpoint]
	if !ok {
		return &Error{Code: errcode.ErrorCodeNameInvalid, Status: http.StatusNotFound,
			Sentence: "This path is not part of the OCI Distribution API.",
			Remedy:   "Repositories are named <handle or DID>/<repository>, for example alice.example.com/app."}
	}
	route, ok := methods[req.Method]
	if !ok {
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		return fail(errcode.ErrorCodeUnsupported, "The method "+clip(req.Method)+" is not supported here.",
			"Allowed are "+w.Header().Get("Allow")+".")
	}
	q := &request{Request: req, Ref: strings.Clone(path.Ref)}
	if path.Name != "" {
		if q.Name, ok = spec.ParseName(strings.Clone(path.Name)); !ok {
			return invalidName(path.Name)
		}
	}
	if err := r.authorize(w, q, route.right); err != nil {
		return err
	}
	if path.Name != "" {
		owner, err := r.Owners.Owner(req.Context(), q.Name.Owner)
		if err != nil {
			return unknownOwner(q.Name.Owner, err)
		}
		q.Owner = owner
		// The token server checks the same when it grants; a handle that moved since must not carry rights along.
		if (route.right == push || route.right == remove) && q.Grant.Subject() != owner {
			return fail(errcode.ErrorCodeDenied, "This token belongs to "+string(q.Grant.Subject())+", and "+q.Name.Owner+" is somebody else.",
				"Log in as "+q.Name.Owner+" to change its repositories.")
		}
	}
	if route.right == push && req.ContentLength != 0 {
		release, err := r.bodies.take(q.Grant.Subject())
		if err != nil {
			return err
		}
		defer release()
	}
	return route.handle(r, w, q)
}

// authorize verifies the token and checks it for the one right that the route needs on exactly this repository.
func (r *Registry) authorize(w http.ResponseWriter, q *request, need right) error {
	kind, name := "repository", q.Name.String()
	if need == catalog {
		kind, name = "registry", "catalog"
	}
	scheme, raw, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		r.challenge(w, q, need, "")
		return fail(errcode.ErrorCodeUnauthorized, "A token is needed.",
			"Clients fetch one by themselves; to push, log in first: docker login "+q.Host+" with your handle and an app password.")
	}
	grant, err := r.Tokens.Verify(strings.TrimSpace(raw))
	if err != nil {
		r.challenge(w, q, need, "invalid_token")
		return fail(errcode.ErrorCodeUnauthorized, "The token is not valid, or has expired.",
			"Fetch a new one from the realm in the WWW-Authenticate header; clients do so by themselves.").because(err)
	}
	q.Grant = grant
	if need == anyToken || grant.Allows(kind, name, string(need)) {
		return nil
	}
	r.challenge(w, q, need, "insufficient_scope")
	e := fail(errcode.ErrorCodeUnauthorized, "The token does not allow "+string(need)+" on "+name+".", "Log in as its owner: docker login "+q.Host+".")
	if who := grant.Subject(); who != "" {
		e.Sentence = "The token of " + string(who) + " does not allow " + string(need) + " on " + name + "."
		e.Remedy = "You can push to and delete from your own repositories only, whose names begin with your handle or DID; if this is one, fetch a token with this scope."
	}
	return e.with([]map[string]string{{"Type": kind, "Name": name, "Action": string(need)}})
}

// challenge says where to get a token, and with which scope (distribution token authentication specification).
func (r *Registry) challenge(w http.ResponseWriter, q *request, need right, problem string) {
	scope := ""
	switch need {
	case anyToken:
	case catalog:
		scope = "registry:catalog:*"
	case push:
		scope = "repository:" + q.Name.String() + ":pull,push"
		if from, ok := spec.ParseName(q.URL.Query().Get("from")); ok && from != q.Name {
			scope += " repository:" + from.String() + ":pull"
		}
	default:
		scope = "repository:" + q.Name.String() + ":" + string(need)
	}
	r.Tokens.Challenge(w, q.Request, scope, problem)
}

func invalidName(name string) error {
	return fail(errcode.ErrorCodeNameInvalid, "The repository name "+quote(name)+" is not valid.",
		"Write <handle or DID>/<repository> in lower case, with letters, digits and single separators (. _ -), at most 255 bytes.")
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}

func quote(s string) string { return `"` + clip(s) + `"` }
