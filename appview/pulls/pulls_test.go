package pulls

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/holdclient"
)

const (
	alice = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	bob   = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
	hold  = syntax.DID("did:web:hold.example.com")
)

// faulty is a hold that refuses the AppView, hangs, or fails: what no real one does at a test's command.
type faulty struct {
	mu       sync.Mutex
	distrust bool
	heard    []holdclient.Notification
	by       []string
}

func (f *faulty) Resolve(_ context.Context, did syntax.DID) (*holdclient.Hold, error) {
	return &holdclient.Hold{DID: did}, nil
}

func (f *faulty) Notify(_ context.Context, _ *holdclient.Hold, user syntax.DID, n holdclient.Notification) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard, f.by = append(f.heard, n), append(f.by, string(user))
	return nil
}

func (f *faulty) NotifySigned(_ context.Context, _ *holdclient.Hold, token string, n holdclient.Notification) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.by = append(f.by, token)
	if f.distrust {
		return &holdclient.Error{Kind: holdclient.Refused}
	}
	f.heard = append(f.heard, n)
	return nil
}

func counter(f *faulty, now *time.Time) *Counter {
	return New(Config{Holds: f, Now: func() time.Time { return *now }, Log: slog.New(slog.DiscardHandler),
		Sign: func(hold syntax.DID, method string) (string, error) { return "AppView", nil },
		CameAlong: func(_ context.Context, _ syntax.DID, d digest.Digest) (bool, error) {
			return d == digest.FromString("entry"), nil
		}})
}

func from(addr string, forwarded ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v2/x/manifests/y", nil)
	r.RemoteAddr = addr
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	return r
}

func TestAReaderCountsOnceAnHourForAManifest(t *testing.T) {
	now := time.Date(2026, 11, 26, 7, 0, 0, 0, time.UTC)
	f := &faulty{}
	c := counter(f, &now)
	tagged := Pull{Owner: alice, Repository: "app", Tag: "v1", Digest: digest.FromString("m"), Hold: hold}
	byDigest := tagged
	byDigest.Tag = ""
	byBob := tagged
	byBob.Reader = bob
	for range 3 {
		c.Count(from("8.8.8.8:1000"), tagged)
		c.Count(from("8.8.8.9:1000"), byDigest) // the same network, which asks by tag and then by digest
		c.Count(from("[2001:db8:1::1]:1000"), tagged)
		c.Count(from("[2001:db8:1:2::1]:1000"), tagged)
		c.Count(from("10.0.0.7:1000", "9.9.9.9, 1.1.1.1"), tagged)   // what the nearest proxy says
		c.Count(from("10.0.0.7:1000", "7.7.7.7", "1.1.1.2"), tagged) // is believed, and nothing before it
		c.Count(from("8.8.8.8:1000", "4.4.4.4"), tagged)             // and nobody else is
		c.Count(from("8.8.8.8:1000"), byBob)
		c.Count(from("4.4.4.4:1000"), byBob)
	}
	c.Flush(t.Context())
	require.Len(t, f.heard, 1, "one batch is one notification")
	require.Equal(t, 4, f.heard[0].Count)
	require.Equal(t, "pull", f.heard[0].Operation)

	c.Flush(t.Context())
	require.Len(t, f.heard, 1)
	now = now.Add(time.Hour)
	c.Count(from("8.8.8.8:1000"), tagged)
	c.Flush(t.Context())
	require.Len(t, f.heard, 2)
	require.Equal(t, 1, f.heard[1].Count)
}

func TestWhatComesAlongIsNoPull(t *testing.T) {
	now := time.Now()
	f := &faulty{}
	c := counter(f, &now)
	entry := Pull{Owner: alice, Repository: "app", Digest: digest.FromString("entry"), Hold: hold}
	c.Count(from("8.8.8.8:1"), entry)
	c.Count(from("8.8.8.8:1"), Pull{Owner: alice, Repository: "app", Tag: "v1", Digest: digest.FromString("old"), Hold: ""})
	c.Flush(t.Context())
	require.Empty(t, f.by)
	entry.Tag = "arm64"
	c.Count(from("9.8.8.8:1"), entry)
	c.Flush(t.Context())
	require.Len(t, f.heard, 1, "one that is asked for by name is")
}

func TestAHoldThatDoesNotTrustTheAppViewHearsOfReadersWhoAreLoggedIn(t *testing.T) {
	now := time.Now()
	f := &faulty{distrust: true}
	c := counter(f, &now)
	p := Pull{Owner: alice, Repository: "app", Tag: "v1", Digest: digest.FromString("m"), Hold: hold}
	c.Count(from("8.8.8.8:1"), p)
	p.Reader = bob
	c.Count(from("8.8.8.8:1"), p)
	c.Flush(t.Context())
	require.Equal(t, []string{"AppView", string(bob)}, f.by)
	require.Zero(t, f.heard[0].Count, "a reader counts as one")

	p.Digest = digest.FromString("other")
	c.Count(from("8.8.8.8:1"), p)
	c.Flush(t.Context())
	require.Equal(t, []string{"AppView", string(bob), string(bob)}, f.by, "it is not asked again at once")
	now = now.Add(refusedTime)
	c.Count(from("8.8.8.8:1"), p)
	c.Flush(t.Context())
	require.Equal(t, "AppView", f.by[3])
}

func TestTheLastBatchIsSentAtTheEnd(t *testing.T) {
	now := time.Now()
	f := &faulty{}
	c := counter(f, &now)
	c.Count(from("8.8.8.8:1"), Pull{Owner: alice, Repository: "app", Tag: "v1", Digest: digest.FromString("m"), Hold: hold})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	c.Run(ctx)
	require.Len(t, f.heard, 1)
}
