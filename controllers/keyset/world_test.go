package keyset_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/keyset"
)

// world is servers, tokens and Secrets on one true clock. Operators and servers have clocks of their own, at most half
// of policy.Skew away from it, so that two differ by no more than the whole.
type world struct {
	t *rapid.T
	secrets
	history []secrets // all that the API server ever had, the newest last
	now     time.Time
	source  *keyset.Key
	request string
	servers []*server
	tokens  []token
	made    int // keys that operators made
	places  int // that there ever were for them: the first key's, and the staged one's as often as it became free
	revoked map[string]bool
	known   map[string]bool   // every key that servers were ever told of
	leaked  map[string]string // the key that signed when a request to revoke came, by request
	policy  keyset.Policy
	life    time.Duration // of tokens, as the servers were told
	due     time.Time     // when the operator comes back by itself
}

// secrets are what the API server has at one time.
type secrets struct {
	secret  *keyset.Set // nil: nothing
	version int         // of secret, which changes only on top of the newest
	staged  *keyset.Key // another than the one that was seen is not deleted, nor is one made where one is
	until   time.Time   // when something else took their place
}

type server struct {
	since  time.Time // when it came
	skew   time.Duration
	mute   bool // it cannot be asked
	loaded *keyset.Set
	due    time.Time // when it loads what the API server has then; zero: it is up to date
}

type token struct {
	kid     string
	expires time.Time // by the clock of the server that issued it
}

func (w *world) key() *keyset.Key {
	k, err := keyset.Generate(rand.Reader, keyset.ES256, "x", w.now)
	require.NoError(w.t, err)
	return k
}

// makes is [world.key] for an operator, which makes one for each place: invariant (c).
func (w *world) makes() *keyset.Key {
	w.made++
	require.LessOrEqual(w.t, w.made, w.places, "a key more than there are places")
	return w.key()
}

// changed is a change of what the API server has.
func (w *world) changed(now secrets) {
	w.until = w.now
	w.history = append(w.history, w.secrets)
	w.secrets = now
}

func (w *world) write(s *keyset.Set) {
	// What is written is what another operator reads: through the files and the annotation.
	f, err := s.Files()
	require.NoError(w.t, err)
	back, err := keyset.Parse(f)
	require.NoError(w.t, err)
	back.Recall(s.Record(), w.now)
	require.Equal(w.t, s.Record(), back.Record())
	require.LessOrEqual(w.t, len(back.Verifying()), keyset.MaxVerifying)
	after := w.secrets
	after.secret, after.version = back, w.version+1
	w.changed(after)
	for _, k := range back.Verifying() {
		w.known[k.Kid] = true
		require.False(w.t, w.revoked[k.Kid], "key %s was revoked, or is earlier than one that was, and is trusted", k.Kid)
	}
	require.False(w.t, verifies(back, w.leaked[back.Request]), "the request is noted as carried out, and the key that it is about is trusted")
	for _, s := range w.servers {
		if s.due.IsZero() {
			// The kubelet may take longer than anybody promised.
			s.due = w.now.Add(time.Duration(rapid.IntRange(0, 600).Draw(w.t, "delay")) * time.Second)
		}
	}
}

// stage changes the staged key, which only becomes free for another when it signs, or when somebody deletes it.
func (w *world) stage(k *keyset.Key) {
	after := w.secrets
	after.staged = k
	w.changed(after)
}

// reconcile is one pass of an operator, which may end after any write. It sees what the API server has, or had some writes
// ago: then what it does about it is refused.
func (w *world) reconcile() {
	clock := w.now.Add(time.Duration(rapid.IntRange(-30, 30).Draw(w.t, "skew of the operator")) * time.Second)
	unseen := 0
	if rapid.IntRange(0, 3).Draw(w.t, "stale") == 0 {
		unseen = rapid.IntRange(0, min(len(w.history), 8)).Draw(w.t, "writes not seen")
	}
	last := keyset.Nothing
	for range rapid.IntRange(1, 6).Draw(w.t, "writes before it dies") {
		seen := w.secrets
		if unseen > 0 {
			seen = w.history[len(w.history)-unseen]
		}
		state := keyset.State{Set: seen.secret, Staged: seen.staged, Source: w.source, Request: w.request}
		plan := keyset.Decide(state, w.policy, clock)
		if plan.Action == keyset.Nothing || plan.Confirm && !w.loaded(seen.secret, clock) {
			if unseen == 0 {
				w.life, w.due = w.policy.TokenLife, w.now.Add(plan.After) // the keys come first
			}
			return
		}
		if unseen == 0 {
			require.NotEqual(w.t, last, plan.Action, "it does the same again")
			last = plan.Action
		}
		before := len(w.history)
		if !w.carry(seen, state, plan.Action, clock) {
			return
		}
		if unseen > 0 { // what it wrote itself is one more that it has not seen; it may catch up
			unseen = rapid.IntRange(0, min(unseen+len(w.history)-before, 8)).Draw(w.t, "writes not seen")
		}
	}
}

// carry does what an operator decided about what it saw, and says whether the API server took it.
func (w *world) carry(seen secrets, state keyset.State, action keyset.Action, clock time.Time) bool {
	switch action {
	case keyset.Begin:
		if w.secret != nil {
			return false
		}
		if state.Source == nil {
			state.Fresh = w.makes()
		}
		w.write(keyset.Carry(state, w.policy, action, clock))
		return true
	case keyset.Stage:
		if w.staged != nil {
			return false
		}
		k := w.source
		if k == nil {
			k = w.makes()
		}
		w.stage(k)
		return true
	case keyset.Unstage:
		if w.staged != seen.staged {
			return false
		}
		if w.source == nil && w.secret.Current.Kid == w.staged.Kid {
			w.places++
		}
		w.stage(nil)
		return true
	}
	if w.version != seen.version {
		return false
	}
	switch action {
	case keyset.Promote:
		w.promoteIsSafe(state.Staged.Kid)
	case keyset.Revoke:
		for kid := range w.known {
			w.revoked[kid] = kid != state.Staged.Kid
		}
	case keyset.Purge:
		for _, k := range w.secret.Retired {
			w.revoked[k.Kid] = true
		}
	}
	w.write(keyset.Carry(state, w.policy, action, clock))
	return true
}

// loaded asks the servers that can be asked, by the operator's clock.
func (w *world) loaded(set *keyset.Set, clock time.Time) bool {
	var asked []keyset.Server
	for i, s := range w.servers {
		v := keyset.Server{Name: fmt.Sprint(i), Mute: s.mute}
		if !s.mute {
			v.Ready = names.Ready{KeySetHash: s.loaded.Hash(), SigningKey: s.loaded.Current.Kid}
		}
		asked = append(asked, v)
	}
	behind := set.Behind(asked, w.policy, clock)
	for i, s := range w.servers {
		if !s.mute && (s.loaded.Hash() != set.Hash() || s.loaded.Current.Kid != set.Current.Kid) {
			require.Contains(w.t, behind, fmt.Sprint(i), "a server with other keys is named")
		}
	}
	return len(behind) == 0
}

// promoteIsSafe is invariant (d).
func (w *world) promoteIsSafe(kid string) {
	for i, s := range w.servers {
		require.True(w.t, verifies(s.loaded, kid), "server %d has not loaded the key that is promoted", i)
	}
}

func verifies(s *keyset.Set, kid string) bool {
	for _, k := range s.Verifying() {
		if k.Kid == kid {
			return true
		}
	}
	return false
}

// advance lets time pass; servers load what is due, issue a token each, and verify all tokens that are about: invariants
// (a) and (b).
func (w *world) advance(d time.Duration) {
	w.now = w.now.Add(d)
	for _, s := range w.servers {
		if !s.due.IsZero() && !w.now.Before(s.due) {
			s.loaded, s.due = w.secret, time.Time{}
		}
	}
	for i, s := range w.servers {
		for _, k := range s.loaded.Verifying() {
			fresh := w.now.Before(s.since.Add(w.policy.Propagation)) // its files may be older than the last word about others'
			require.False(w.t, w.revoked[k.Kid] && len(w.secret.Revoked) == 0 && !fresh, "server %d trusts a revoked key, and nothing says so", i)
		}
		w.tokens = append(w.tokens, token{s.loaded.Current.Kid, w.now.Add(s.skew + w.life)})
	}
	var about []token
	for _, tok := range w.tokens {
		alive := false
		for i, s := range w.servers {
			if w.now.Add(s.skew).After(tok.expires) {
				continue // by this server's clock it is over
			}
			alive = true
			if !w.revoked[tok.kid] && !verifies(s.loaded, tok.kid) && !w.afterRevocation(s, tok.kid) {
				w.t.Fatalf("server %d refuses a token of key %s that is good for %s", i, tok.kid[:6], tok.expires.Sub(w.now))
			}
		}
		if alive {
			about = append(about, tok)
		}
	}
	w.tokens = about
}

// afterRevocation says that a server has not seen the key that took over at once when another was revoked. That costs a
// login, which is the price of revoking.
func (w *world) afterRevocation(s *server, kid string) bool {
	return len(w.revoked) > 0 && kid == w.secret.Current.Kid && !s.due.IsZero()
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, now: now, revoked: map[string]bool{}, known: map[string]bool{}, leaked: map[string]string{}, policy: policy, life: policy.TokenLife}
	if rapid.Bool().Draw(t, "provided") {
		w.source = w.key()
	} else {
		w.places = 2
	}
	for w.secret == nil {
		w.reconcile()
	}
	for range rapid.IntRange(1, 3).Draw(t, "servers") {
		w.servers = append(w.servers, w.server(w.secrets))
	}
	return w
}

// server is one that starts with the files of then, and has the newest within the time of propagation.
func (w *world) server(then secrets) *server {
	s := &server{since: w.now, loaded: then.secret, skew: time.Duration(rapid.IntRange(-30, 30).Draw(w.t, "skew")) * time.Second}
	if then.version != w.version {
		latest := then.until.Add(w.policy.Propagation).Sub(w.now)
		s.due = w.now.Add(time.Duration(rapid.IntRange(0, int(latest/time.Second)).Draw(w.t, "delay")) * time.Second)
	}
	return s
}

// comes is a server whose files were right at some time within that of propagation.
func (w *world) comes() *server {
	could := []secrets{w.secrets}
	for i := len(w.history) - 1; i >= 0; i-- {
		if then := w.history[i]; then.secret != nil && w.now.Sub(then.until) < w.policy.Propagation {
			could = append(could, then)
		}
	}
	return w.server(could[rapid.IntRange(0, len(could)-1).Draw(w.t, "files")])
}

// What happens besides reconciles and the passing of time, as often as it stands here.
var happenings = []string{
	"nothing", "nothing", "nothing", "nothing", "somebody asks", "somebody asks", "a source changes", "a server comes", "a server goes",
	"a day passes", "what waits is due", "what waits is due", "the staged key is deleted", "a leak", "a server falls silent or speaks again", "tokens live longer or shorter", "tokens live longer or shorter",
}

func (w *world) happen(what string, i int) {
	switch what {
	case "somebody asks":
		w.request = fmt.Sprintf("r%d", i)
	case "a leak":
		w.request = fmt.Sprintf("revoke-%d", i)
		w.leaked[w.request] = w.secret.Current.Kid
	case "a server falls silent or speaks again":
		s := w.servers[i%len(w.servers)]
		s.mute = !s.mute
	case "a source changes":
		if w.source != nil {
			w.source = w.key()
		}
	case "a server comes":
		w.servers = append(w.servers, w.comes())
	case "a server goes":
		if len(w.servers) > 1 {
			w.servers = w.servers[1:]
		}
	case "a day passes":
		w.advance(24 * time.Hour)
	case "what waits is due":
		w.advance(max(0, w.due.Sub(w.now)))
	case "the staged key is deleted":
		if w.staged != nil {
			if w.source == nil {
				w.places++
			}
			w.stage(nil)
		}
	case "tokens live longer or shorter":
		w.policy.TokenLife = time.Duration(rapid.IntRange(60_000, 3600_000).Draw(w.t, "life of tokens")) * time.Millisecond
	}
}

func TestNoTokenIsRefusedWhateverHappensWhileKeysRotate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		leaks := rapid.Bool().Draw(t, "leaks")
		for i := range rapid.IntRange(20, 120).Draw(t, "steps") {
			what := rapid.SampledFrom(happenings).Draw(t, "happening")
			if what == "a leak" && !leaks {
				continue
			}
			w.happen(what, i)
			w.reconcile()
			w.advance(time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second)
		}
		w.carriesOutWhatIsPending()
		w.fillsEveryPlace()
	})
}

// carriesOutWhatIsPending: a revocation that waits for another key is carried out as one when there is one.
func (w *world) carriesOutWhatIsPending() {
	if w.source != nil {
		w.source = w.key()
	}
	for i := 0; i < 300 && (w.request != w.secret.Request || w.secret.Unsettled()); i++ {
		w.reconcile()
		w.advance(10 * time.Minute)
	}
	require.Equal(w.t, w.request, w.secret.Request)
	require.Empty(w.t, w.secret.Revoked)
	require.False(w.t, verifies(w.secret, w.leaked[w.request]))
}

// fillsEveryPlace is the rest of invariant (c): no place stays empty.
func (w *world) fillsEveryPlace() {
	for range 300 {
		if w.made == w.places {
			return
		}
		w.reconcile()
	}
	require.Equal(w.t, w.places, w.made)
}
