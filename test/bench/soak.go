package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	soakClients   = 8
	soakPerClient = 25 // operations a second: a soak is long, not hard
	soakKept      = 20 // manifests of a client; older ones are deleted, so that nothing grows but by a leak
	faultsPer     = 100
)

// faultyPDS stands between everybody and a PDS, and fails one request of a hundred while it is armed.
type faultyPDS struct {
	server *http.Server
	armed  atomic.Bool
	asked  atomic.Int64
	failed atomic.Int64
}

func (f *faultyPDS) front(addr string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	f.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.armed.Load() {
			switch n := f.asked.Add(1); {
			case n%faultsPer != 0:
			case n%(2*faultsPer) == 0:
				f.failed.Add(1)
				panic(http.ErrAbortHandler) // hangs up
			default:
				f.failed.Add(1)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = f.server.Serve(l) }() // ends with ErrServerClosed
	return fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port), nil
}

// soak pulls (75 %), asks (20 %) and pushes (5 %) for long while one of a hundred requests to the PDS fails. No pull may
// fail; pushes may, at most as many as there were faults.
func (r *run) soak(ctx context.Context) error {
	if r.Soak == 0 {
		return nil
	}
	pds := &faultyPDS{}
	n, err := r.startNetwork(ctx, "soak", r.ours, onFilesystem(r.dir+"/soak"), pds.front)
	if pds.server != nil {
		defer pds.server.Close()
	}
	if err != nil {
		return err
	}
	i := newImage()
	if err := n.push(ctx, i); err != nil {
		return err
	}
	s := &soaking{run: r, network: n, image: i, began: time.Now(), done: map[string]int{}}
	if err := s.phase(ctx, r.Soak/10); err != nil { // connections and caches fill
		return err
	}
	before, err := s.state(ctx)
	if err != nil {
		return err
	}
	s.early, s.late = nil, nil
	pds.armed.Store(true)
	if err := s.phase(ctx, r.Soak); err != nil {
		return err
	}
	pds.armed.Store(false)
	after, err := s.state(ctx)
	if err != nil {
		return err
	}
	t := r.table("Soak", fmt.Sprintf("%s; %d requests to the PDS, %d of them failed on purpose", r.Soak, pds.asked.Load(), pds.failed.Load()),
		"measure", "before", "after")
	t.add("goroutines of the AppView", fmt.Sprint(before.goroutines), fmt.Sprint(after.goroutines))
	for k, p := range n.servers {
		t.add("MiB of "+p.name, number(mib(before.memory[k])), number(mib(after.memory[k])))
	}
	t.add("p99 ms of a manifest GET, first and last tenth", number(millis(s.early, .99)), number(millis(s.late, .99)))
	for _, kind := range []string{"pull", "head", "push", "push failed"} {
		t.add(kind, "", fmt.Sprint(s.done[kind]))
	}
	if s.done["push failed"] > int(pds.failed.Load()) {
		return fmt.Errorf("%d pushes failed, but the PDS failed %d times only", s.done["push failed"], pds.failed.Load())
	}
	if after.goroutines > before.goroutines+before.goroutines/2+20 {
		return fmt.Errorf("goroutines grew from %d to %d", before.goroutines, after.goroutines)
	}
	return nil
}

type soaking struct {
	*run
	network *network
	image   *image
	began   time.Time

	mu          sync.Mutex
	done        map[string]int
	early, late []time.Duration
}

type soakState struct {
	goroutines int
	memory     []int64
}

func (s *soaking) state(ctx context.Context) (soakState, error) {
	g, err := s.network.metric(ctx, "go_goroutines")
	out := soakState{goroutines: int(g)}
	for _, p := range s.network.servers {
		now, _, e := p.memory()
		err = errors.Join(err, e)
		out.memory = append(out.memory, now)
	}
	return out, err
}

// phase runs the clients for a while.
func (s *soaking) phase(ctx context.Context, length time.Duration) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	end := time.Now().Add(length)
	tenth := length / 10
	var wg sync.WaitGroup
	for k := range soakClients {
		wg.Go(func() {
			c := &soakClient{soaking: s, number: k, dials: dialer{}}
			defer c.dials.close()
			tick := time.NewTicker(time.Second / soakPerClient)
			defer tick.Stop()
			for time.Now().Before(end) {
				var into *[]time.Duration
				if left := time.Until(end); left > length-tenth {
					into = &s.early
				} else if left < tenth {
					into = &s.late
				}
				if err := c.step(ctx, into); err != nil {
					stop(err)
					return
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

type soakClient struct {
	*soaking
	number int
	dials  dialer
	pushed []string // digests of manifests, oldest first
	count  int
}

func (c *soakClient) step(ctx context.Context, into *[]time.Duration) (err error) {
	kind := "pull"
	switch dice := rand.IntN(100); {
	case dice < 75:
		err = c.pull(ctx, http.MethodGet, into)
	case dice < 95:
		kind, err = "head", c.pull(ctx, http.MethodHead, nil)
	default:
		kind = "push"
		if err = c.pushOne(ctx); ours(err) {
			kind, err = "push failed", nil
			c.dials.close() // a half-sent body may be left on the connection
		}
	}
	c.mu.Lock()
	c.done[kind]++
	c.mu.Unlock()
	return err
}

// ours says whether an answer may be the consequence of a fault on purpose: one that says "try again".
func ours(err error) bool {
	var wrong *wrongAnswer
	return errors.As(err, &wrong) && slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable}, wrong.status)
}

func (c *soakClient) pull(ctx context.Context, method string, into *[]time.Duration) error {
	p := c.network.peer
	auth, err := p.authorization(ctx, anonymous, repository, "pull")
	if err != nil {
		return err
	}
	conn, err := c.dials.to(p.host)
	if err != nil {
		return err
	}
	q := &call{method: method, target: "/v2/" + repository + "/manifests/" + c.image.tag, header: accept + auth,
		want: want{status: http.StatusOK, length: int64(len(c.image.manifest)), digest: digestOf(c.image.manifest)}}
	began := time.Now()
	if _, err := conn.do(q); err != nil {
		return err
	}
	if into != nil {
		c.mu.Lock()
		*into = append(*into, time.Since(began))
		c.mu.Unlock()
	}
	if method == http.MethodHead {
		return nil
	}
	return p.pullBlob(ctx, c.dials, anonymous, repository, c.image.layer, digestOf(c.image.layer))
}

// pushOne pushes an image of its own and deletes the oldest of this client.
func (c *soakClient) pushOne(ctx context.Context) error {
	auth, err := c.network.authorization(ctx, loggedIn, repository, "delete")
	if err != nil {
		return err
	}
	layer := random(layerSize)
	if err := c.network.pushBlob(ctx, c.dials, repository, layer, digestOf(layer)); err != nil {
		return err
	}
	m := manifestFor(c.image.config, layer, "")
	c.count++
	tag := fmt.Sprintf("c%d-%d", c.number, c.count%soakKept)
	if err := c.network.pushManifest(ctx, c.dials, repository, tag, m); err != nil {
		return err
	}
	c.pushed = append(c.pushed, digestOf(m))
	if len(c.pushed) <= soakKept {
		return nil
	}
	conn, err := c.dials.to(c.network.host)
	if err != nil {
		return err
	}
	oldest := c.pushed[0]
	c.pushed = c.pushed[1:]
	_, err = conn.do(&call{method: http.MethodDelete, target: "/v2/" + repository + "/manifests/" + oldest, header: auth,
		want: want{status: http.StatusAccepted}})
	return err
}
