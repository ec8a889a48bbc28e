package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client is an OCI client as docker is one: it retries what a registry that is away answers. Each request goes to one
// of the replicas, as through a load balancer. It is for one goroutine.
type client struct {
	w      *world
	http   *http.Client
	rnd    *rand.Rand
	handle string // empty: anonymous
	tokens map[string]token
	only   int // the replica to talk to; -1: any
}

type token struct {
	value string
	until time.Time
}

// answer is a whole answer.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// away is what a client retries: a broken connection, 503 or 429.
type away struct{ err error }

func (e *away) Error() string { return e.err.Error() }

func isAway(err error) bool {
	var a *away
	return errors.As(err, &a)
}

func newClient(w *world, seed uint64, handle string) *client {
	return &client{w: w, rnd: rand.New(rand.NewPCG(seed, 1)), handle: handle, tokens: map[string]token{}, only: -1,
		http: &http.Client{
			Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, MaxIdleConnsPerHost: 2, ResponseHeaderTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
}

func (c *client) replica() string {
	if c.only >= 0 {
		return c.w.urls[c.only]
	}
	return c.w.urls[c.rnd.IntN(len(c.w.urls))]
}

// send sends one request, and judges the answer: a server may be gone, or say 503 with Retry-After; any other failure
// of its own is a defect.
func (c *client) send(ctx context.Context, method, target string, body []byte, header http.Header) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if c.handle != "" { // a pusher's
		defer c.w.ended.add()
	}
	resp, err := c.http.Do(req)
	if err != nil {
		c.w.count.add("broken", 1)
		return nil, c.broken(ctx, err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		c.w.count.add("broken", 1)
		return nil, c.broken(ctx, err)
	}
	a := &answer{resp.StatusCode, resp.Header, all}
	switch {
	case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "", a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "":
		c.w.count.add("refused", 1)
		return nil, &away{fmt.Errorf("%s %s: %d %s", method, req.URL.Path, a.status, all)}
	case a.status >= 500:
		c.w.count.wrong("%s %s was answered %d (Retry-After %q): %s", method, req.URL.Path, a.status, a.header.Get("Retry-After"), all)
		return nil, &away{fmt.Errorf("%s %s: %d", method, req.URL.Path, a.status)}
	}
	if c.handle != "" {
		c.w.served.add()
	}
	return a, nil
}

func (c *client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &away{err}
}

// do sends a request about a repository, with a token for it.
func (c *client) do(ctx context.Context, method, repository, path string, body []byte, header http.Header) (*answer, error) {
	for range 2 { // a token that has just run out
		bearer, err := c.token(ctx, repository)
		if err != nil {
			return nil, err
		}
		h := http.Header{"Authorization": {"Bearer " + bearer}}
		for k, v := range header {
			h[k] = v
		}
		a, err := c.send(ctx, method, c.replica()+path, body, h)
		if err != nil || a.status != http.StatusUnauthorized {
			return a, err
		}
		delete(c.tokens, repository)
	}
	return nil, fmt.Errorf("%s %s: a fresh token is refused", method, path)
}

func (c *client) token(ctx context.Context, repository string) (string, error) {
	if t, ok := c.tokens[repository]; ok && time.Now().Before(t.until) {
		return t.value, nil
	}
	scope := "repository:" + repository + ":pull"
	h := http.Header{}
	if c.handle != "" {
		scope += ",push,delete"
		req := http.Request{Header: h}
		req.SetBasicAuth(c.handle, appPassword)
	}
	a, err := c.send(ctx, http.MethodGet, c.replica()+"/auth/token?"+url.Values{"scope": {scope}}.Encode(), nil, h)
	if err != nil {
		return "", err
	}
	var out struct{ Token string }
	if a.status != http.StatusOK {
		return "", fmt.Errorf("a token for %s: %d %s", scope, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		return "", err
	}
	c.tokens[repository] = token{out.Token, time.Now().Add(2 * time.Minute)}
	return out.Token, nil
}

// blob pulls a blob, by the redirect. Found is false on 404.
func (c *client) blob(ctx context.Context, repository, digest string) (body []byte, found bool, err error) {
	a, err := c.do(ctx, http.MethodGet, repository, "/v2/"+repository+"/blobs/"+digest, nil, nil)
	if err != nil {
		return nil, false, err
	}
	switch a.status {
	case http.StatusNotFound:
		return nil, false, nil
	case http.StatusOK:
		return a.body, true, nil
	case http.StatusTemporaryRedirect:
	default:
		return nil, false, fmt.Errorf("blob %s: %d %s", digest, a.status, a.body)
	}
	if a, err = c.send(ctx, http.MethodGet, a.header.Get("Location"), nil, nil); err != nil {
		return nil, false, err
	}
	if a.status != http.StatusOK {
		return nil, false, fmt.Errorf("blob %s at the hold: %d %s", digest, a.status, a.body)
	}
	return a.body, true, nil
}

// pause is what a client waits before it asks again: longer each time, as docker's does, but not for as long.
func (c *client) pause(ctx context.Context, try int) error {
	d := min(10*time.Millisecond<<min(try, 6), 200*time.Millisecond)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d/2 + time.Duration(c.rnd.Int64N(int64(d)))):
		return nil
	}
}

// again repeats fn while it finds something away.
func (c *client) again(ctx context.Context, fn func() error) error {
	for try := 0; ; try++ {
		err := fn()
		if !isAway(err) {
			return err
		}
		c.w.count.add("retries", 1)
		if e := c.pause(ctx, try); e != nil {
			return fmt.Errorf("%w, after %d tries; the last one: %w", e, try+1, err)
		}
	}
}

// path of a URL or path in a Location header.
func pathOf(location string) string {
	if u, err := url.Parse(location); err == nil && strings.HasPrefix(location, "http") {
		return u.RequestURI()
	}
	return location
}
