package holdclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/config/names"
)

const (
	maxAnswer       = 64 << 10         // bytes of a JSON answer
	callTimeout     = 15 * time.Second // of a call without a body of blob size
	completeTimeout = 30 * time.Minute // a hold reads the whole blob back to verify it
	maxHolds        = 10_000
)

// Directory finds where a hold is, by its DID document: #atcr_hold, else #atproto_pds, else the host of a did:web.
type Directory interface {
	HoldEndpoint(ctx context.Context, did syntax.DID) (string, error)
}

// Tokens gives the service token with which user may call hold (com.atproto.server.getServiceAuth at the user's PDS).
type Tokens interface {
	ServiceToken(ctx context.Context, user, hold syntax.DID) (string, error)
}

// Config is what a [Client] is made of; every field but Now is needed.
type Config struct {
	Directory Directory
	Tokens    Tokens
	// Configured is the hold as the operator configured it just now, and whether the operator did.
	Configured func(did string) (names.Hold, bool)
	Guarded    *http.Client // for endpoints that users and records chose: refuses private addresses
	Trusted    *http.Client // for endpoints that the operator configured
	// Trusting makes the same two clients, which trust certificates besides the system's roots. Nil when no configured
	// hold has any.
	Trusting func(certificates string) (guarded, trusted *http.Client)
	// HandOut says whether clients may be sent to a URL that a hold gave out which no operator configured.
	HandOut func(*url.URL) error
	Now     func() time.Time // time.Now when nil
}

// Client calls holds. It is safe for concurrent use.
type Client struct {
	Config
	mu        sync.Mutex
	holds     map[syntax.DID]resolved
	crews     map[[2]syntax.DID]time.Time
	trusting  map[string]clients       // by certificates
	simple    map[syntax.DID]time.Time // holds without reserveManifest, until they are asked again
	located   *lru.Cache[locationKey, location]
	first     *lru.Cache[uploadKey, firstPart]
	whole     *lru.Cache[[2]syntax.DID, time.Time] // users and holds that take their blobs whole, until they are asked again
	resolving singleflight.Group
	now       func() time.Time
	partIdle  time.Duration

	successors *lru.Cache[syntax.DID, succession]
	following  singleflight.Group
}

// New makes a client.
func New(c Config) *Client {
	own := clientsFrom(c.Guarded, c.Trusted)
	c.Guarded, c.Trusted = own.guarded, own.trusted
	if c.Now == nil {
		c.Now = time.Now
	}
	located, _ := lru.New[locationKey, location](20_000)
	first, _ := lru.New[uploadKey, firstPart](10_000)
	whole, _ := lru.New[[2]syntax.DID, time.Time](maxHolds)
	successors, _ := lru.New[syntax.DID, succession](maxHolds)
	return &Client{Config: c, located: located, first: first, whole: whole, successors: successors, holds: map[syntax.DID]resolved{}, crews: map[[2]syntax.DID]time.Time{}, simple: map[syntax.DID]time.Time{}, trusting: map[string]clients{}, now: c.Now, partIdle: partIdle}
}

// clients are for one choice of roots.
type clients struct{ guarded, trusted *http.Client }

func clientsFrom(guarded, trusted *http.Client) clients {
	g, t := *guarded, *trusted
	for _, client := range []*http.Client{&g, &t} {
		// A redirect is an answer for our client, never a place to send a service token to.
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		client.Timeout = 0 // calls have deadlines of their own; parts of a blob take as long as they move
	}
	return clients{&g, &t}
}

// maxTrusting bounds how many sets of certificates have clients: they change, and nobody says which are over.
const maxTrusting = 256

// clientsFor verify the certificate of h, and of the storage that it sends us to, as the operator configured for h.
func (c *Client) clientsFor(h *Hold) clients {
	if h.certificates == "" || c.Trusting == nil {
		return clients{c.Guarded, c.Trusted}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	own, known := c.trusting[h.certificates]
	if !known {
		if len(c.trusting) >= maxTrusting {
			for _, old := range c.trusting {
				old.guarded.CloseIdleConnections()
				old.trusted.CloseIdleConnections()
			}
			clear(c.trusting)
		}
		own = clientsFrom(c.Trusting(h.certificates))
		c.trusting[h.certificates] = own
	}
	return own
}

func (c *Client) httpFor(h *Hold) *http.Client {
	if h.trusted {
		return c.clientsFor(h).trusted
	}
	return c.clientsFor(h).guarded
}

// call posts in as JSON to a method of the hold as user, and reads the JSON answer into out.
func (c *Client) call(ctx context.Context, h *Hold, user syntax.DID, method string, in, out any) error {
	return c.post(ctx, h, method, in, out, func(req *http.Request) error { return c.authorize(ctx, req, h, user, method) })
}

func (c *Client) post(ctx context.Context, h *Hold, method string, in, out any, authorize func(*http.Request) error) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.Endpoint+"/xrpc/"+method, bytes.NewReader(body))
	if err != nil {
		return &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	if err := authorize(req); err != nil {
		return err
	}
	resp, err := c.httpFor(h).Do(req)
	if err != nil {
		return &Error{Kind: Unavailable, Hold: h.DID, Call: method, Err: stripURL(err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return answerError(h, method, resp)
	}
	if out == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return &Error{Kind: Misconfigured, Hold: h.DID, Call: method, Status: resp.StatusCode,
			Err: errors.New("the answer is not the JSON that was expected")}
	}
	return nil
}

func (c *Client) authorize(ctx context.Context, req *http.Request, h *Hold, user syntax.DID, method string) error {
	token, err := c.Tokens.ServiceToken(ctx, user, h.DID)
	if err != nil {
		return &TokenError{Hold: h.DID, Call: method, Err: err}
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return nil
}

// TokenError says that the user's PDS gave no service token for the hold.
type TokenError struct {
	Hold syntax.DID
	Call string
	Err  error
}

func (e *TokenError) Error() string {
	return "service token for hold " + string(e.Hold) + ": " + e.Err.Error()
}
func (e *TokenError) Unwrap() error { return e.Err }

// answerError reads an XRPC error answer: {"error": name, "message": sentence}. The message stays out of our errors.
func answerError(h *Hold, call string, resp *http.Response) error {
	var body struct {
		Error string `json:"error"`
		Detail
	}
	_ = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&body) // a foreign hold may answer anything
	return &Error{Kind: kindOfAnswer(resp.StatusCode, body.Error), Hold: h.DID, Call: call, Status: resp.StatusCode,
		Name: atproto.ErrorName(body.Error), RetryAfter: retryAfter(resp.Header), Detail: body.Detail}
}

func retryAfter(h http.Header) time.Duration {
	if n, err := strconv.Atoi(h.Get("Retry-After")); err == nil && n > 0 {
		return min(time.Duration(n)*time.Second, time.Hour)
	}
	return 0
}

// stripURL drops the URL that net/http puts into its errors: presigned ones are secrets. So is one in a Location that
// net/http could not read, and repeats.
func stripURL(err error) error {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err
	}
	if strings.HasPrefix(ue.Err.Error(), "failed to parse Location header") {
		return errors.New("the answer redirects to what is no URL")
	}
	return ue.Err
}
