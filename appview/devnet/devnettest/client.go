package devnettest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Target is a PDS with one account on it.
type Target struct {
	// URL of the PDS, and of the PLC directory that its accounts are in.
	URL    string
	PLCURL string
	// Handle and Password of an account that the suite may write to.
	Handle   string
	Password string
}

type client struct {
	t     *testing.T
	url   string
	token string
	http  *http.Client
}

func newClient(t *testing.T, base string) *client {
	return &client{t: t, url: base, http: &http.Client{Timeout: 30 * time.Second}}
}

func (c *client) as(token string) *client {
	other := *c
	other.token = token
	return &other
}

func (c *client) in(t *testing.T) *client {
	other := *c
	other.t = t
	return &other
}

// answer of one call.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

func (c *client) do(method, path, contentType string, body io.Reader, host string) answer {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, body)
	require.NoError(c.t, err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if host != "" {
		req.Host = host
	}
	res, err := c.http.Do(req)
	require.NoError(c.t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	return answer{c.t, res.StatusCode, res.Header, raw}
}

// get calls a query; params alternate names and values.
func (c *client) get(nsid string, params ...string) answer {
	c.t.Helper()
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	return c.do(http.MethodGet, "/xrpc/"+nsid+"?"+q.Encode(), "", nil, "")
}

// post calls a procedure with a JSON input.
func (c *client) post(nsid string, input any) answer {
	c.t.Helper()
	if input == nil {
		return c.do(http.MethodPost, "/xrpc/"+nsid, "", nil, "")
	}
	raw, err := json.Marshal(input)
	require.NoError(c.t, err)
	return c.do(http.MethodPost, "/xrpc/"+nsid, "application/json", bytes.NewReader(raw), "")
}

func (c *client) upload(contentType string, content []byte) answer {
	c.t.Helper()
	return c.do(http.MethodPost, "/xrpc/com.atproto.repo.uploadBlob", contentType, bytes.NewReader(content), "")
}

// ok demands a 200 and returns its JSON.
func (a answer) ok() obj {
	a.t.Helper()
	require.Equal(a.t, http.StatusOK, a.status, "answered %s", a.body)
	out := obj{}
	if len(a.body) > 0 {
		require.NoError(a.t, json.Unmarshal(a.body, &out))
	}
	return out
}

// fails demands an XRPC error; an empty name takes any.
func (a answer) fails(status int, name string) {
	a.t.Helper()
	require.Equal(a.t, status, a.status, "answered %s", a.body)
	var e struct{ Error, Message string }
	require.NoError(a.t, json.Unmarshal(a.body, &e))
	require.NotEmpty(a.t, e.Error)
	if name != "" {
		require.Equal(a.t, name, e.Error, e.Message)
	}
}

type obj map[string]any

func (o obj) str(path ...string) string {
	var at any = map[string]any(o)
	for _, p := range path {
		m, _ := at.(map[string]any)
		at = m[p]
	}
	s, _ := at.(string)
	return s
}
