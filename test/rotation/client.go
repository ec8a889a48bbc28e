package rotation

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

const (
	timeout = 30 * time.Second // of a request
	tries   = 3                // of a request whose token is refused
)

// client holds one token at a time, and uses it on every replica.
type client struct {
	running    *Running
	user       User
	image      Image
	habit      int
	token      token
	unexpected atomic.Int64 // 401s for a token that was not over
}

// What clients do with a token, so that tokens of every age and every key are about. Any other habit is to ask again soon.
const (
	keeps   = iota // to the last moment
	forgets        // some time before
	habits  = 4
)

type token struct {
	value   string
	expires time.Time // it is over then
	renew   time.Time // the client gets another then, at the latest at its end
}

// pull is a manifest, by tag or digest, and a blob of it.
func (c *client) pull(ctx context.Context) error {
	i := c.image
	reference := i.Tag
	if rand.IntN(2) == 0 {
		reference = i.Digest
	}
	manifest := "/v2/" + i.Repository + "/manifests/" + reference
	if err := c.get(ctx, manifest, func(resp *response) error {
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Docker-Content-Digest") != i.Digest {
			return fmt.Errorf("GET %s: status %d with digest %q", manifest, resp.StatusCode, resp.Header.Get("Docker-Content-Digest"))
		}
		return nil
	}); err != nil {
		return err
	}
	blob := "/v2/" + i.Repository + "/blobs/" + i.Blob
	return c.get(ctx, blob, func(resp *response) error {
		if resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: status %d", blob, resp.StatusCode)
		}
		return nil
	})
}

// get asks a replica. Without a token, or when the one it has is refused, it does what the challenge says.
func (c *client) get(ctx context.Context, path string, check func(*response) error) error {
	if !time.Now().Before(c.token.renew) {
		c.token = token{}
	}
	for range tries {
		used := c.token
		resp, err := c.send(ctx, c.anyReplica()+path, func(h http.Header) {
			h.Set("Accept", "application/vnd.oci.image.manifest.v1+json, */*")
			if used.value != "" {
				h.Set("Authorization", "Bearer "+used.value)
			}
		})
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusUnauthorized {
			return check(resp)
		}
		switch {
		case used.value == "":
			c.running.challenges.Add(1)
		case time.Now().Before(used.expires):
			c.unexpected.Add(1)
			c.running.unexpected.Add(1)
		}
		if c.token, err = c.obey(ctx, resp.Header.Get("WWW-Authenticate")); err != nil {
			return err
		}
	}
	return fmt.Errorf("GET %s: status 401 with %d tokens in a row", path, tries)
}

var challenge = regexp.MustCompile(`^Bearer realm="([^"]+)",service="([^"]+)"`)

// obey gets a token where the challenge says (distribution's token specification).
func (c *client) obey(ctx context.Context, header string) (token, error) {
	m := challenge.FindStringSubmatch(header)
	if m == nil {
		return token{}, fmt.Errorf("no challenge to follow: %q", header)
	}
	asked := time.Now()
	query := url.Values{"service": {m[2]}, "scope": {"repository:" + c.image.Repository + ":pull"}}
	req := m[1] + "?" + query.Encode()
	resp, err := c.send(ctx, req, func(h http.Header) {
		if c.user.Name != "" {
			h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.user.Name+":"+c.user.Password)))
		}
	})
	if err != nil {
		return token{}, err
	}
	var answer struct {
		Token     string `json:"token"`
		ExpiresIn int    `json:"expires_in"` // seconds
	}
	if err := json.Unmarshal(resp.body, &answer); err != nil || resp.StatusCode != http.StatusOK {
		return token{}, fmt.Errorf("GET %s: status %d", m[1], resp.StatusCode)
	}
	kid, err := kidOf(answer.Token)
	if err != nil {
		return token{}, err
	}
	c.running.signedBy(kid)
	life := time.Duration(answer.ExpiresIn) * time.Second
	t := token{value: answer.Token, expires: asked.Add(life), renew: asked.Add(life)}
	switch c.habit {
	case keeps:
	case forgets:
		t.renew = asked.Add(rand.N(life))
	default:
		t.renew = asked.Add(rand.N(life / 12))
	}
	return t, nil
}

// kidOf is the key that signed a token.
func kidOf(token string) (string, error) {
	head, _, _ := strings.Cut(token, ".")
	b, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		return "", errors.New("a token without a header")
	}
	var header struct{ Kid string }
	if err := json.Unmarshal(b, &header); err != nil || header.Kid == "" {
		return "", errors.New("a token without a kid")
	}
	return header.Kid, nil
}

func (c *client) anyReplica() string {
	return c.running.load.Replicas[rand.IntN(len(c.running.load.Replicas))]
}

// response has been read to its end.
type response struct {
	*http.Response
	body []byte
}

func (c *client) send(ctx context.Context, to string, header func(http.Header)) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	if err != nil {
		return nil, err
	}
	header(req.Header)
	c.running.requests.Add(1)
	resp, err := c.running.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", req.URL.Path, err)
	}
	return &response{resp, body}, nil
}
