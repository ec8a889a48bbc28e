package session

import (
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// How much of a user's createSession budget (30 in 5 minutes, 300 a day on the reference PDS) we may use.
const (
	loginBurst = 10 // from one network
	loginEvery = 5 * time.Minute
	totalBurst = 25               // from all: guesses from one network leave the user's own logins
	wrongTTL   = time.Minute      // a wrong password is not tried again for this long
	downTTL    = 30 * time.Second // a PDS that is down is not asked again for this long whether sessions live
	remembered = 10_000           // wrong passwords, and DIDs with a limiter
)

// limits keep wrong passwords away from PDSes. They live in this process.
type limits struct {
	now   func() time.Time
	wrong *lru.Cache[string, time.Time] // credential -> until
	down  *lru.Cache[string, time.Time] // PDS -> until
	perID *lru.Cache[budget, *rate.Limiter]
}

// budget is whose logins are counted: those of one network, or with an empty one all.
type budget struct {
	did  syntax.DID
	from string
}

func newLimits(now func() time.Time) *limits {
	wrong, _ := lru.New[string, time.Time](remembered)
	down, _ := lru.New[string, time.Time](remembered)
	perID, _ := lru.New[budget, *rate.Limiter](remembered)
	return &limits{now, wrong, down, perID}
}

func (l *limits) isWrong(credential string) bool {
	until, ok := l.wrong.Get(credential)
	return ok && l.now().Before(until)
}

func (l *limits) markWrong(credential string) { l.wrong.Add(credential, l.now().Add(wrongTTL)) }

func (l *limits) isDown(pds string) bool {
	until, ok := l.down.Get(pds)
	return ok && l.now().Before(until)
}

func (l *limits) markDown(pds string) { l.down.Add(pds, l.now().Add(downTTL)) }

// take uses one login of did's budgets; wait says how long until there is one again when there is none.
func (l *limits) take(did syntax.DID, from string) (wait time.Duration, ok bool) {
	if wait, ok = l.takeOf(budget{did, "from " + from}, loginBurst); ok {
		wait, ok = l.takeOf(budget{did, ""}, totalBurst)
	}
	return wait, ok
}

func (l *limits) takeOf(of budget, burst int) (wait time.Duration, ok bool) {
	lim, found, _ := l.perID.PeekOrAdd(of, rate.NewLimiter(rate.Every(loginEvery), burst))
	if !found {
		lim, _ = l.perID.Get(of)
	} else {
		l.perID.Get(of) // keeps it recent
	}
	now := l.now()
	if lim == nil || lim.AllowN(now, 1) {
		return 0, true
	}
	r := lim.ReserveN(now, 1)
	defer r.CancelAt(now)
	return r.DelayFrom(now), false
}
