package bench

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Account and repository of every peer.
const (
	owner       = "alice.test"
	appPassword = "bnch-test-pass-word"
	repository  = owner + "/bench"
)

// who asks.
type who int

const (
	anonymous who = iota // an anonymous token where tokens are needed, else nothing
	loggedIn
)

// peer is a registry under measurement.
type peer struct {
	name    string
	host    string     // host:port
	servers []*process // the registry itself first, then those that work for it
	private bool       // needs a token for everything, and takes those of tokens
	tokens  *tokenServer
	moves   bool // blobs pass through it; else GET of a blob is a redirect
	debug   string
}

// tokenServer is where tokens come from.
type tokenServer struct {
	realm   string
	service string

	mu      sync.Mutex
	fetched map[string]issued
}

type issued struct {
	header  string
	expires time.Time
}

// authorization is the header line for requests on a repository; empty for a peer that wants none.
func (p *peer) authorization(ctx context.Context, as who, repository, actions string) (string, error) {
	if p.tokens == nil {
		return "", nil
	}
	p.tokens.mu.Lock() // a token is fetched by one
	defer p.tokens.mu.Unlock()
	key := fmt.Sprint(as, repository, actions)
	if t, ok := p.tokens.fetched[key]; ok && time.Until(t.expires) > time.Minute {
		return t.header, nil
	}
	query := url.Values{"service": {p.tokens.service}, "scope": {"repository:" + repository + ":" + actions}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.tokens.realm+"?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	if as == loggedIn {
		req.SetBasicAuth(owner, appPassword)
	}
	var out struct {
		Token     string
		ExpiresIn int `json:"expires_in"`
	}
	if err := fetch(req, &out); err != nil {
		return "", fmt.Errorf("token of %s: %w", p.name, err)
	}
	header := "Authorization: Bearer " + out.Token + "\r\n"
	p.tokens.fetched[key] = issued{header, time.Now().Add(time.Duration(out.ExpiresIn) * time.Second)}
	return header, nil
}

func basic(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

// fetch reads a JSON answer.
func fetch(req *http.Request, out any) error {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// usage is the CPU time of each process of a peer.
type usage []time.Duration

func (p *peer) cpu() (usage, error) {
	var u usage
	for _, s := range p.servers {
		used, err := s.cpu()
		if err != nil {
			return nil, errors.Join(err, fmt.Errorf("%s ended:\n%s", s.name, s.tail()))
		}
		u = append(u, used)
	}
	return u, nil
}

func (u usage) since(before usage) usage {
	var out usage
	for i := range u {
		out = append(out, u[i]-before[i])
	}
	return out
}

func (u usage) sum() (total time.Duration) {
	for _, d := range u {
		total += d
	}
	return total
}
