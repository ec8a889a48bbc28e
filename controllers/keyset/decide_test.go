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

var policy = keyset.Policy{
	Algorithm: keyset.ES256, Interval: 24 * time.Hour, TokenLife: 5 * time.Minute, Skew: time.Minute, Propagation: 2 * time.Minute,
}

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
	w.secrets.until = w.now
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
				w.life = w.policy.TokenLife // the keys come first
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
	"a day passes", "the staged key is deleted", "a leak", "a server falls silent or speaks again", "tokens live longer or shorter", "tokens live longer or shorter",
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

// settle reconciles until nothing is left to do but wait, and says how long.
func settle(t require.TestingT, s *keyset.State, p keyset.Policy, at time.Time) keyset.Plan {
	for range 20 {
		plan := keyset.Decide(*s, p, at)
		switch plan.Action {
		case keyset.Nothing:
			return plan
		case keyset.Begin:
			k, err := keyset.Generate(rand.Reader, p.Algorithm, "x", at)
			require.NoError(t, err)
			s.Fresh = k
			s.Set = keyset.Carry(*s, p, plan.Action, at)
		case keyset.Stage:
			k, err := keyset.Generate(rand.Reader, p.Algorithm, "x", at)
			require.NoError(t, err)
			if s.Staged = k; s.Source != nil {
				s.Staged = s.Source
			}
		case keyset.Unstage:
			s.Staged = nil
		default:
			s.Set = keyset.Carry(*s, p, plan.Action, at)
		}
	}
	require.Fail(t, "it never settles")
	return keyset.Plan{}
}

func TestAGeneratedKeySignsForItsIntervalAndTheNextTakesOver(t *testing.T) {
	s := &keyset.State{}
	plan := settle(t, s, policy, now)
	require.Equal(t, policy.Interval, plan.After)
	require.NotNil(t, s.Set.Next, "published from the start")
	first, next := s.Set.Current.Kid, s.Set.Next.Kid

	settle(t, s, policy, now.Add(policy.Interval-time.Second))
	require.Equal(t, first, s.Set.Current.Kid)
	plan = settle(t, s, policy, now.Add(policy.Interval))
	require.Equal(t, next, s.Set.Current.Kid)
	require.Len(t, s.Set.Retired, 1)
	require.Equal(t, policy.TokenLife+2*policy.Skew+policy.Propagation, plan.After, "until the old key's tokens are over")
	require.NotNil(t, s.Set.Next)

	settle(t, s, policy, now.Add(policy.Interval).Add(plan.After))
	require.Empty(t, s.Set.Retired)
}

func TestARequestRotatesOnceAndAManualPolicyNeverByItself(t *testing.T) {
	manual := policy
	manual.Interval = 0
	s := &keyset.State{}
	require.Zero(t, settle(t, s, manual, now).After)
	first := s.Set.Current.Kid
	settle(t, s, manual, now.Add(1000*24*time.Hour))
	require.Equal(t, first, s.Set.Current.Kid)

	s.Request = "monday"
	settle(t, s, manual, now.Add(time.Hour))
	second := s.Set.Current.Kid
	require.NotEqual(t, first, second)
	settle(t, s, manual, now.Add(2*time.Hour))
	require.Equal(t, second, s.Set.Current.Kid)
}

func TestAKeyIsNotPromotedBeforeItHadTimeToReachTheServers(t *testing.T) {
	s := &keyset.State{}
	settle(t, s, policy, now)
	first := s.Set.Current.Kid
	s.Request = "now"
	plan := settle(t, s, policy, now.Add(time.Minute))
	require.Equal(t, first, s.Set.Current.Kid)
	require.True(t, plan.Waiting)
	require.Equal(t, policy.Propagation-time.Minute, plan.After)
}

func TestRevokingTakesTheCurrentKeyAwayAtOnce(t *testing.T) {
	s := &keyset.State{}
	settle(t, s, policy, now)
	first := s.Set.Current.Kid
	s.Request = "revoke-1"
	settle(t, s, policy, now)
	require.False(t, verifies(s.Set, first))
	second := s.Set.Current.Kid
	settle(t, s, policy, now.Add(time.Hour))
	require.Equal(t, second, s.Set.Current.Kid, "once")
}

func TestRevokingTakesAKeyAwayThatWasJustRotated(t *testing.T) {
	s := &keyset.State{}
	settle(t, s, policy, now)
	leaked := s.Set.Current.Kid
	s.Request = "1"
	at := now.Add(time.Hour)
	settle(t, s, policy, at)
	require.Equal(t, leaked, s.Set.Retired[0].Kid)
	innocent := s.Set.Current.Kid
	s.Request = "revoke-1"
	settle(t, s, policy, at)
	require.False(t, verifies(s.Set, leaked))
	require.False(t, verifies(s.Set, innocent))
}

func TestARevocationIsOverWhenEveryServerHasLoadedTheSetWithoutTheKey(t *testing.T) {
	s := &keyset.State{}
	settle(t, s, policy, now)
	before := s.Set
	s.Request = "revoke-1"
	s.Set = keyset.Carry(*s, policy, keyset.Revoke, now)
	require.Equal(t, []string{before.Current.Kid}, s.Set.Revoked)
	s.Staged = generate(t, keyset.ES256)
	s.Set = keyset.Carry(*s, policy, keyset.Publish, now)
	plan := keyset.Decide(*s, policy, now)
	require.Equal(t, keyset.Plan{Action: keyset.Settle, Confirm: true, After: 2 * time.Second, Waiting: true}, plan)

	fits := keyset.Server{Name: "b", Ready: names.Ready{KeySetHash: s.Set.Hash(), SigningKey: s.Set.Current.Kid}}
	old := keyset.Server{Name: "c", Ready: names.Ready{KeySetHash: before.Hash(), SigningKey: before.Current.Kid}}
	silent := keyset.Server{Name: "a", Mute: true}
	all := []keyset.Server{old, fits, silent}
	require.Equal(t, []string{"a", "c"}, s.Set.Behind(all, policy, now))
	late := now.Add(10 * policy.Propagation)
	require.Equal(t, []string{"c"}, s.Set.Behind(all, policy, late), "the silent one has them by now")
	require.True(t, s.Set.Overdue(policy, late))
	require.False(t, s.Set.Overdue(policy, late.Add(-time.Second)))

	// It is asked about less and less often.
	var asked []time.Duration
	for at := now; len(asked) < 8; at = at.Add(asked[len(asked)-1]) {
		asked = append(asked, keyset.Decide(*s, policy, at).After)
	}
	require.Equal(t, []time.Duration{2e9, 2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9}, asked)

	s.Set = keyset.Carry(*s, policy, keyset.Settle, now)
	require.Empty(t, s.Set.Revoked)
	require.Equal(t, keyset.Nothing, keyset.Decide(*s, policy, now).Action)
}

func TestARevocationOfAProvidedKeyIsCarriedOutWhenItsSourceChanges(t *testing.T) {
	s := &keyset.State{Source: generate(t, keyset.ES256)}
	settle(t, s, policy, now)
	earlier := s.Source.Kid
	s.Source = generate(t, keyset.ES256)
	at := now.Add(time.Hour)
	settle(t, s, policy, at)
	settle(t, s, policy, at.Add(policy.Propagation))
	leaked := s.Source.Kid
	require.Equal(t, leaked, s.Set.Current.Kid)
	require.True(t, verifies(s.Set, earlier))

	s.Request = "revoke-1"
	at = at.Add(2 * policy.Propagation)
	require.Equal(t, keyset.Plan{Action: keyset.Nothing, Pending: true}, settle(t, s, policy, at))
	require.False(t, verifies(s.Set, earlier), "what is earlier than the current key goes at once")
	require.Empty(t, s.Set.Request)

	s.Source = generate(t, keyset.ES256)
	require.Equal(t, keyset.Plan{Action: keyset.Nothing}, settle(t, s, policy, at.Add(time.Hour)))
	require.Equal(t, s.Source.Kid, s.Set.Current.Kid)
	require.False(t, verifies(s.Set, leaked))
	require.Equal(t, "revoke-1", s.Set.Request)
}

func TestTokensThatLiveForAFractionOfASecondAreRoundedUpOnce(t *testing.T) {
	fraction := policy
	fraction.TokenLife = 90*time.Second + 500*time.Millisecond
	s := &keyset.State{}
	settle(t, s, fraction, now)
	f, err := s.Set.Files()
	require.NoError(t, err)
	back, err := keyset.Parse(f)
	require.NoError(t, err)
	back.Recall(s.Set.Record(), now)
	s.Set = back
	require.Equal(t, 91*time.Second, s.Set.TokenLife)
	require.Equal(t, keyset.Nothing, keyset.Decide(*s, fraction, now).Action)
}

func TestAnotherAlgorithmRotatesTheKey(t *testing.T) {
	s := &keyset.State{}
	settle(t, s, policy, now)
	rsa := policy
	rsa.Algorithm = keyset.RS256
	settle(t, s, rsa, now)
	require.Equal(t, keyset.ES256, s.Set.Current.Algorithm)
	require.Equal(t, keyset.RS256, s.Set.Next.Algorithm)
	settle(t, s, rsa, now.Add(rsa.Propagation))
	require.Equal(t, keyset.RS256, s.Set.Current.Algorithm)
	require.Len(t, s.Set.Retired, 1)
}

func TestAProvidedKeyIsStagedAndTakesOverWhenItHasArrived(t *testing.T) {
	s := &keyset.State{Source: generate(t, keyset.ES256)}
	settle(t, s, policy, now)
	require.Equal(t, s.Source.Kid, s.Set.Current.Kid)
	require.Nil(t, s.Staged)
	require.Nil(t, s.Set.Next)

	s.Source = generate(t, keyset.RS256)
	settle(t, s, policy, now.Add(time.Hour))
	require.Equal(t, s.Source.Kid, s.Set.Next.Kid)
	settle(t, s, policy, now.Add(time.Hour+policy.Propagation))
	require.Equal(t, s.Source.Kid, s.Set.Current.Kid)
	require.Nil(t, s.Staged)

	// One that comes and goes before it signs leaves nothing behind.
	before := s.Source
	s.Source = generate(t, keyset.ES256)
	settle(t, s, policy, now.Add(3*time.Hour))
	s.Source = before
	settle(t, s, policy, now.Add(3*time.Hour))
	require.Nil(t, s.Set.Next)
	require.Nil(t, s.Staged)
}

func TestRotationsInQuickSuccessionWaitForRoom(t *testing.T) {
	fast := policy
	fast.Propagation = 0
	s := &keyset.State{}
	settle(t, s, fast, now)
	for i := range keyset.MaxRetired + 3 {
		s.Request = fmt.Sprint(i)
		settle(t, s, fast, now)
	}
	require.Len(t, s.Set.Retired, keyset.MaxRetired)
	_, err := s.Set.Files()
	require.NoError(t, err)
	plan := settle(t, s, fast, now)
	require.True(t, plan.Waiting)
	require.Positive(t, plan.After)
	settle(t, s, fast, now.Add(plan.After))
	require.Equal(t, s.Request, s.Set.Request, "carried out once there is room")
}

func TestALostRecordIsTakenAtItsSafest(t *testing.T) {
	s := &keyset.State{}
	settle(t, s, policy, now)
	settle(t, s, policy, now.Add(policy.Interval))
	f, err := s.Set.Files()
	require.NoError(t, err)
	set, err := keyset.Parse(f)
	require.NoError(t, err)
	set.Recall("nonsense", now)
	require.Equal(t, now, set.Since)
	require.Equal(t, s.Set.Hash(), set.Hash(), "every key verifies on")
	require.Nil(t, set.Next)
	for _, k := range set.Retired {
		require.Zero(t, k.Until)
	}
}

func TestAKeyOutlivesTokensThatWereLongerThanTheyAreNow(t *testing.T) {
	s := &keyset.State{}
	settle(t, s, policy, now)
	longer, shorter := policy, policy
	longer.TokenLife, shorter.TokenLife = time.Hour, time.Minute
	settle(t, s, longer, now.Add(time.Minute))
	old := s.Set.Current.Kid
	s.Request = "1"
	settle(t, s, shorter, now.Add(10*time.Minute))
	require.Equal(t, old, s.Set.Retired[0].Kid)
	require.Equal(t, now.Add(70*time.Minute+2*policy.Skew+policy.Propagation), s.Set.Retired[0].Until)
}

func TestAClockThatWasAheadHoldsNothingUp(t *testing.T) {
	s := &keyset.State{}
	future := now.AddDate(1, 0, 0)
	settle(t, s, policy, future)
	s.Request = "in the future"
	settle(t, s, policy, future.Add(policy.Propagation))
	require.Len(t, s.Set.Retired, 1)
	settle(t, s, policy, now) // the clock is right again
	require.Equal(t, now, s.Set.Since)
	require.Equal(t, now, s.Set.Published)
	require.False(t, s.Set.Retired[0].Until.After(now.Add(2*time.Hour)))

	before := s.Set.Current.Kid
	s.Request = "now"
	settle(t, s, policy, now.Add(policy.Propagation))
	require.NotEqual(t, before, s.Set.Current.Kid)
}

func TestALostRecordOfAFullSetLeavesASetThatCanBeReadAndGetsWellAgain(t *testing.T) {
	fast := policy
	fast.Propagation = 0
	s := &keyset.State{}
	settle(t, s, fast, now)
	for i := range keyset.MaxRetired {
		s.Request = fmt.Sprint(i)
		settle(t, s, fast, now)
	}
	f, err := s.Set.Files()
	require.NoError(t, err)
	s.Set, err = keyset.Parse(f)
	require.NoError(t, err)
	s.Set.Recall("", now)
	s.Staged = nil // lost with it: every key but the current one is an old one now, and another is to come
	plan := settle(t, s, fast, now)
	f, err = s.Set.Files()
	require.NoError(t, err)
	_, err = keyset.Parse(f)
	require.NoError(t, err)
	settle(t, s, fast, now.Add(plan.After))
	require.NotNil(t, s.Set.Next)
	require.Len(t, s.Set.Retired, 1, "what was asked for last is carried out once more")
}
