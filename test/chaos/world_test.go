package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store/storetest"
	"atcr.io/operator/test/testenv"
)

// Accounts of the world; alice is the hold's captain. Passwords are the test's own, on loopback.
var accounts = []string{"alice.test", "bob.test", "carol.test", "dave.test"}

const appPassword = "aaaa-bbbb-cccc-dddd"

// world is a registry of real processes: two AppViews over one PostgreSQL, a hold, a PDS.
type world struct {
	appViews []*process
	urls     []string // of the AppViews' API
	debug    []string
	hold     *process
	holdEnv  map[string]string
	holdURL  string
	holdDbg  string
	pds      *process
	pdsURL   string
	pdsDir   string
	database database
	dbURL    string
	dids     map[string]syntax.DID // by handle

	ended  counter // requests of pushers, answered well or not
	served counter // those that were neither broken nor answered 5xx or 429
	kills  counter // begun
	count  tally
}

func (w *world) parts() []part {
	return []part{w.appViews[0], w.appViews[1], w.hold, w.pds, w.database}
}

func (w *world) processes() []*process { return append([]*process{w.hold, w.pds}, w.appViews...) }

// database is PostgreSQL as a part.
type database struct{ *storetest.Cluster }

func (database) String() string                { return "database" }
func (d database) kill() error                 { return d.Kill() }
func (d database) start(context.Context) error { return d.Start() }

// startWorld starts everything; holdEnv says where the hold keeps its blobs, on a filesystem when nil.
func startWorld(t *testing.T, binaries string, holdEnv map[string]string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{dids: map[string]syntax.DID{}, pdsDir: filepath.Join(dir, "pds")}
	w.ended.init()
	w.served.init()
	w.kills.init()
	ports := make([]int, 7)
	for i := range ports {
		var err error
		ports[i], err = testenv.Port("127.0.0.1")
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		for _, p := range w.processes() {
			if p == nil {
				continue
			}
			if p.running() {
				_ = p.kill()
			}
			if t.Failed() && p.cmd != nil {
				t.Logf("the end of %s's log:\n%s", p, p.tail())
			}
		}
	})

	w.pdsURL = fmt.Sprintf("http://localhost:%d", ports[0])
	args := []string{"devnet", "--addr", fmt.Sprintf("127.0.0.1:%d", ports[0]), "--data", w.pdsDir}
	for _, handle := range accounts {
		args = append(args, "--account", handle, "--app-password", handle+"="+appPassword)
	}
	w.appViews = make([]*process, 2)
	w.pds = &process{name: "pds", binary: filepath.Join(binaries, "atcr-dev"), args: args, ready: w.pdsURL + "/xrpc/_health", log: filepath.Join(dir, "pds.log")}
	require.NoError(t, os.MkdirAll(w.pdsDir, 0o700))
	w.begin(t, w.pds)
	for _, handle := range accounts {
		var out struct{ DID syntax.DID }
		require.NoError(t, getJSON(t.Context(), w.pdsURL+"/xrpc/com.atproto.identity.resolveHandle?handle="+handle, &out))
		w.dids[handle] = out.DID
	}

	w.holdURL, w.holdDbg = fmt.Sprintf("http://localhost:%d", ports[1]), fmt.Sprintf("http://127.0.0.1:%d", ports[2])
	holdDir := filepath.Join(dir, "hold")
	w.holdEnv = map[string]string{
		names.HoldHTTPAddr: fmt.Sprintf("127.0.0.1:%d", ports[1]), names.HoldDebugAddr: fmt.Sprintf("127.0.0.1:%d", ports[2]),
		names.HoldPublicURL: w.holdURL, names.HoldOwner: string(w.dids[accounts[0]]), names.HoldPublic: "true", names.HoldAllowAllCrew: "true",
		names.HoldPLCURL: w.pdsURL, names.TestMode: "true", names.HoldDatabaseDir: filepath.Join(holdDir, "db"),
		names.StorageDriver: "filesystem", names.StorageRootDir: filepath.Join(holdDir, "blobs"),
	}
	maps.Copy(w.holdEnv, holdEnv)
	w.hold = &process{name: "hold", binary: filepath.Join(binaries, "atcr-hold"), env: environ(w.holdEnv), ready: w.holdDbg + names.PathReady, log: filepath.Join(dir, "hold.log")}
	w.begin(t, w.hold)

	w.database = database{storetest.StartPostgres(t, storetest.Durable...)}
	w.dbURL = w.database.Database(t)
	keys := filepath.Join(dir, "keys") // shared by the replicas, as the operator mounts them
	for i := range w.appViews {
		api, dbg := fmt.Sprintf("127.0.0.1:%d", ports[3+2*i]), fmt.Sprintf("127.0.0.1:%d", ports[4+2*i])
		w.urls, w.debug = append(w.urls, "http://"+api), append(w.debug, "http://"+dbg)
		w.appViews[i] = &process{name: fmt.Sprintf("appview-%d", i), binary: filepath.Join(binaries, "atcr-appview"), ready: "http://" + dbg + names.PathReady,
			log: filepath.Join(dir, fmt.Sprintf("appview-%d.log", i)), env: environ(map[string]string{
				names.HTTPAddr: api, names.DebugAddr: dbg, names.BaseURL: w.urls[0], names.DatabaseURL: w.dbURL,
				names.DefaultHoldDID: "did:web:localhost%3A" + fmt.Sprint(ports[1]), names.TestMode: "true", names.AccessLog: "off",
				names.PLCURL: w.pdsURL, names.HandleResolverURL: w.pdsURL,
				names.AuthKeyPath: filepath.Join(keys, names.FileSigningKey), names.AuthCertPath: filepath.Join(keys, names.FileSigningCert),
				names.SealingKeyPath: filepath.Join(keys, names.FileSealingKey),
			})}
		w.begin(t, w.appViews[i])
	}
	return w
}

func (w *world) begin(t *testing.T, p *process) {
	t.Helper()
	if err := p.start(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, p.tail())
	}
}

func environ(vars map[string]string) (out []string) {
	for k, v := range vars {
		out = append(out, k+"="+v)
	}
	return out
}

// getJSON asks a part that is up.
func getJSON(ctx context.Context, target string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL.Path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// listed is a record of listRecords.
type listed struct {
	URI   string
	Value json.RawMessage
}

// records lists a collection of a repository at a PDS, or at the hold, which is one.
func records(ctx context.Context, at string, repo syntax.DID, collection string) ([]listed, error) {
	var all []listed
	for cursor := ""; ; {
		q := url.Values{"repo": {string(repo)}, "collection": {collection}, "limit": {"100"}, "cursor": {cursor}}
		var page struct {
			Records []listed
			Cursor  string
		}
		if err := getJSON(ctx, at+"/xrpc/com.atproto.repo.listRecords?"+q.Encode(), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Records...)
		if cursor = page.Cursor; cursor == "" || len(page.Records) == 0 {
			return all, nil
		}
	}
}

func (w *world) holdDID() syntax.DID {
	return syntax.DID("did:web:" + strings.Replace(strings.TrimPrefix(w.holdURL, "http://"), ":", "%3A", 1))
}

// counter is a number that can be waited for.
type counter struct {
	mu   sync.Mutex
	cond *sync.Cond
	n    int
}

func (c *counter) init() { c.cond = sync.NewCond(&c.mu) }

func (c *counter) add() {
	c.mu.Lock()
	c.n++
	c.mu.Unlock()
	c.cond.Broadcast()
}

func (c *counter) value() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// reach waits until it is n or more, or the context ends.
func (c *counter) reach(ctx context.Context, n int) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cond.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.n < n {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.cond.Wait()
	}
	return nil
}

// tally is what is printed at the end.
type tally struct {
	mu         sync.Mutex
	n          map[string]int
	violations []string
}

func (y *tally) add(what string, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.n == nil {
		y.n = map[string]int{}
	}
	y.n[what] += n
}

func (y *tally) of(what string) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.n[what]
}

// wrong notes something that must never be seen.
func (y *tally) wrong(format string, args ...any) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.violations = append(y.violations, fmt.Sprintf(format, args...))
}
