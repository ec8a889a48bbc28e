package rotation

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Image is what clients pull.
type Image struct {
	Repository string // owner/name
	Tag        string
	Digest     string // of the manifest
	Blob       string // digest of a blob that it names
}

// User is who pulls; nobody without a name.
type User struct{ Name, Password string }

// Load is a fleet of clients.
type Load struct {
	Rate     rate.Limit // pulls per second, over all clients
	Clients  int        // each pulls one image as one user
	Replicas []string   // base URLs; every request goes to one of them, at random
	Users    []User
	Images   []Image
	// Reconnect opens a connection for every request, so that a balancer of connections spreads them.
	Reconnect bool
}

// Counts are what the clients have seen so far.
type Counts struct {
	Pulls        int64 // a manifest by tag or digest, and a blob
	Requests     int64
	Challenges   int64 // 401s for requests without a token, which have to be
	Tokens       int64
	Unexpected   int64 // 401s for a token that is not over
	MostByOne    int64 // of these, of the client that saw the most
	Failed       int64 // pulls that did not succeed
	FirstFailure string
	SigningKeys  int // that have signed a token that a client was given
	Took         time.Duration
}

// PerSecond is the rate of the pulls.
func (c Counts) PerSecond() float64 { return float64(c.Pulls) / c.Took.Seconds() }

// Stalled is a rate, in pulls per second, that no machine is too slow for: fewer prove nothing.
const Stalled = 20

// String implements fmt.Stringer.
func (c Counts) String() string {
	s := fmt.Sprintf("%d pulls (%.0f/s, %d requests) with %d tokens of %d keys: %d failed, %d unexpected 401s",
		c.Pulls, c.PerSecond(), c.Requests, c.Tokens, c.SigningKeys, c.Failed, c.Unexpected)
	if c.FirstFailure != "" {
		s += "; the first failure: " + c.FirstFailure
	}
	return s
}

// Running is a load that goes on until it is stopped.
type Running struct {
	load    Load
	http    *http.Client
	clients []*client
	stop    context.CancelFunc
	done    sync.WaitGroup
	began   time.Time

	pulls, requests, challenges, tokens, unexpected, failed atomic.Int64

	mu    sync.Mutex
	first string
	kids  map[string]bool
}

// Start starts the clients. The load ends with ctx, or when it is stopped.
func Start(ctx context.Context, l Load) *Running {
	ctx, stop := context.WithCancel(ctx)
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: timeout}).DialContext,
		MaxIdleConnsPerHost: l.Clients,
		DisableKeepAlives:   l.Reconnect,
	}
	r := &Running{load: l, stop: stop, began: time.Now(), kids: map[string]bool{}, http: &http.Client{
		Transport: transport, Timeout: timeout,
		// Where a blob is served from knows no tokens.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	limit := rate.NewLimiter(l.Rate, 1+int(l.Rate/10))
	for i := range l.Clients {
		c := &client{running: r, user: l.Users[i%len(l.Users)], image: l.Images[i/2%len(l.Images)], habit: i / 4 % habits}
		r.clients = append(r.clients, c)
		r.done.Go(func() {
			for limit.Wait(ctx) == nil {
				// A pull that has begun is brought to its end.
				if err := c.pull(context.WithoutCancel(ctx)); err != nil {
					r.fail(err)
				}
				r.pulls.Add(1)
			}
		})
	}
	r.done.Go(func() {
		<-ctx.Done()
		transport.CloseIdleConnections()
	})
	return r
}

// Stop lets the pulls that have begun end, and says what there was.
func (r *Running) Stop() Counts {
	r.stop()
	r.done.Wait()
	return r.Counts()
}

// Counts so far.
func (r *Running) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Counts{
		Pulls: r.pulls.Load(), Requests: r.requests.Load(), Challenges: r.challenges.Load(), Tokens: r.tokens.Load(),
		Unexpected: r.unexpected.Load(), Failed: r.failed.Load(), FirstFailure: r.first, SigningKeys: len(r.kids), Took: time.Since(r.began),
	}
	for _, one := range r.clients {
		c.MostByOne = max(c.MostByOne, one.unexpected.Load())
	}
	return c
}

// Signed says whether a client was given a token that the key with that kid signed.
func (r *Running) Signed(kid string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kids[kid]
}

func (r *Running) fail(err error) {
	r.failed.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first == "" {
		r.first = err.Error()
	}
}

func (r *Running) signedBy(kid string) {
	r.tokens.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kids[kid] = true
}
