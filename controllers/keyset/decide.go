package keyset

import (
	"slices"
	"strings"
	"time"
)

// RevokePrefix begins a request that takes the current key and every earlier one away at once, where any other retires
// the current one.
const RevokePrefix = "revoke-"

// Policy says when keys change.
type Policy struct {
	Algorithm Algorithm
	// Interval is how long a key signs before the next one does; zero: only when asked.
	Interval time.Duration
	// TokenLife is how long a token is valid, Skew how far clocks may differ, Propagation how long a changed Secret takes
	// to reach every server.
	TokenLife, Skew, Propagation time.Duration
}

// State is what a decision is made of.
type State struct {
	Set    *Set // nil: no key signs yet
	Staged *Key // the private half of the next key, not given to the servers; nil: none
	Source *Key // the key that somebody else provides; nil: the operator makes keys
	Fresh  *Key // the key that [Begin] begins with when there is no source
	// Request is asked for by hand; carried out when it differs from the set's.
	Request string
}

// Action is one change. Each is one write, so that a crash between two leaves a state that the next decision starts from.
type Action string

const (
	Nothing Action = "Nothing"
	Begin   Action = "Begin"   // make the first set, of the source or a fresh key, with the staged one as next
	Stage   Action = "Stage"   // keep the private half of a coming key: a new one, or the source
	Unstage Action = "Unstage" // the staged key is not the coming one, or signs already: forget it
	Publish Action = "Publish" // give the servers the public half of the staged key
	Conceal Action = "Conceal" // take back a published key that will never sign
	Promote Action = "Promote" // the next key signs, the current one is retired
	Revoke  Action = "Revoke"  // the next key signs, the current one and every earlier one verify no more
	Purge   Action = "Purge"   // retired keys verify no more, as a revocation asks that has no key yet to change to
	Settle  Action = "Settle"  // every server has the set: tokens of retired keys have an end now, revoked keys are gone
	Drop    Action = "Drop"    // tokens of some retired keys are over: they verify no more
	Mark    Action = "Mark"    // note a request as carried out
	Extend  Action = "Extend"  // tokens live longer from now on: so does a key that retires
	Correct Action = "Correct" // a time that cannot be, of a clock that was wrong, becomes one that can
)

// Plan is what to do next.
type Plan struct {
	Action Action
	// Confirm: only once every server that serves has loaded the set as it is. Ask again after After when one has not.
	Confirm bool
	// After is when to decide again, when there is nothing to do now; zero: when something changes.
	After time.Duration
	// Waiting: a change of keys is on its way and needs time.
	Waiting bool
	// Pending: a revocation of a provided key waits until its source has another one.
	Pending bool
}

// longestToken is the longest life that a spec can give tokens.
const longestToken = time.Hour

// Decide says what to do next. It keeps five promises (operator-api.md section 3.4): whoever signs, everybody who serves
// verifies; a key verifies until every token that it may have signed is over; no key is made twice for one place;
// nothing is promoted that a server has not loaded; and a revocation is carried out, or stays asked for.
func Decide(s State, p Policy, now time.Time) Plan {
	if s.Set == nil {
		if s.Staged == nil && s.Source == nil {
			return Plan{Action: Stage} // so that the first set has a next key from the start
		}
		return Plan{Action: Begin}
	}
	current := s.Set.Current
	switch {
	case s.Set.clone().correct(p, now):
		return Plan{Action: Correct}
	case s.Set.TokenLife < wholeSeconds(p.TokenLife):
		return Plan{Action: Extend} // before a server is told
	}
	if plan, ok := decideStaged(s, p); ok {
		return plan
	}
	// A record that was lost can leave one retired key too many: then there is room when some are over.
	if s.Staged != nil && (s.Set.Next == nil || s.Set.Next.Kid != s.Staged.Kid) && len(without(s.Set.Retired, s.Staged.Kid)) <= MaxRetired {
		return Plan{Action: Publish}
	}
	asked, revoke := request(s.Request, s.Set.Request)
	pending := revoke && s.Staged == nil // for want of another key
	switch {
	case pending && len(s.Set.Retired) > 0:
		return Plan{Action: Purge}
	case revoke && !pending:
		return Plan{Action: Revoke}
	case s.Set.Unsettled():
		return Plan{Action: Settle, Confirm: true, After: s.Set.askAgain(now), Waiting: true, Pending: pending}
	}
	for _, k := range s.Set.Retired {
		if !now.Before(k.Until) {
			return Plan{Action: Drop}
		}
	}
	if asked && !revoke && s.Staged == nil {
		return Plan{Action: Mark} // the source's key signs already: there is nothing to change to
	}
	plan := Plan{Action: Nothing, Pending: pending}
	for _, k := range s.Set.Retired {
		plan.After = sooner(plan.After, k.Until.Sub(now))
	}
	if s.Staged == nil {
		return plan
	}
	due := time.Duration(-1)
	switch {
	case asked, s.Source != nil, p.Algorithm != "" && s.Source == nil && current.Algorithm != p.Algorithm:
		due = 0
	case p.Interval > 0:
		due = max(s.Set.Since.Add(p.Interval).Sub(now), 0)
	}
	if due < 0 {
		return plan
	}
	ready := max(s.Set.Published.Add(p.Propagation).Sub(now), 0)
	if len(s.Set.Retired) >= MaxRetired { // it waits for the oldest one's end, which plan.After knows
		plan.Waiting = due == 0
		return plan
	}
	if wait := max(due, ready); wait > 0 {
		plan.After, plan.Waiting = sooner(plan.After, wait), due == 0
		return plan
	}
	return Plan{Action: Promote, Confirm: true, After: s.Set.askAgain(now), Waiting: true}
}

// request says whether something is asked for that was not done, and whether that is a revocation.
func request(wanted, done string) (asked, revoke bool) {
	asked = wanted != "" && wanted != done
	return asked, asked && strings.HasPrefix(wanted, RevokePrefix)
}

// decideStaged brings the staged key to what it should be.
func decideStaged(s State, p Policy) (Plan, bool) {
	switch {
	case s.Staged != nil && s.Staged.Kid == s.Set.Current.Kid: // left over from a promotion
		return Plan{Action: Unstage}, true
	case s.Source == nil && s.Staged == nil:
		return Plan{Action: Stage}, true
	case s.Source == nil:
		if p.Algorithm != "" && s.Staged.Algorithm != p.Algorithm {
			return Plan{Action: Unstage}, true
		}
	case s.Source.Kid == s.Set.Current.Kid:
		if s.Staged != nil {
			return Plan{Action: Unstage}, true
		}
		if s.Set.Next != nil {
			return Plan{Action: Conceal}, true
		}
	case s.Staged == nil:
		return Plan{Action: Stage}, true
	case s.Staged.Kid != s.Source.Kid:
		return Plan{Action: Unstage}, true
	}
	return Plan{}, false
}

func sooner(a, b time.Duration) time.Duration {
	if a <= 0 || b < a {
		return b
	}
	return a
}

// Carry changes the set as a plan says; the caller writes it.
func Carry(s State, p Policy, a Action, now time.Time) *Set {
	if a == Begin {
		return begin(s, p, now)
	}
	set := s.Set.clone()
	switch a {
	case Publish, Conceal, Promote, Revoke, Purge, Drop:
		set.Changed = now
	}
	switch a {
	case Publish:
		next := s.Staged.Public()
		set.Next, set.Published = &next, now
		set.Retired = without(set.Retired, next.Kid) // a key that comes back
		set.Revoked = slices.DeleteFunc(set.Revoked, func(kid string) bool { return kid == next.Kid })
	case Conceal:
		set.Next, set.Published = nil, time.Time{}
	case Promote, Revoke:
		old := Retired{Public: set.Current.Public()}
		set.Current, set.Since, set.Next, set.Published = s.Staged, now, nil, time.Time{}
		if s.Request != "" {
			set.Request = s.Request
		}
		if set.Retired = append(set.Retired, old); a == Revoke {
			set.revoke(set.Retired)
		}
	case Purge:
		set.revoke(set.Retired)
	case Settle:
		set.Revoked = nil
		for i := range set.Retired {
			if set.Retired[i].Until.IsZero() {
				set.Retired[i].Until = now.Add(p.outlive(set.TokenLife))
			}
		}
	case Drop:
		var kept []Retired
		for _, k := range set.Retired {
			if k.Until.IsZero() || now.Before(k.Until) {
				kept = append(kept, k)
			}
		}
		set.Retired = kept
	case Mark:
		set.Request = s.Request
	case Extend:
		set.TokenLife = wholeSeconds(p.TokenLife)
	case Correct:
		set.correct(p, now)
	}
	return set
}

// revoke takes keys away whose tokens are good no more: none that was retired stays.
func (s *Set) revoke(keys []Retired) {
	s.Retired = nil
	for _, k := range keys {
		if k.Kid != s.Current.Kid && !slices.Contains(s.Revoked, k.Kid) {
			s.Revoked = append(s.Revoked, k.Kid)
		}
	}
	s.Revoked = s.Revoked[max(0, len(s.Revoked)-MaxVerifying):]
}

// wholeSeconds is d rounded up: a record keeps no fractions, and what it keeps must not be less than what is.
func wholeSeconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}

// outlive is how long a key must verify after servers stopped signing with it, when its tokens live for life. The skew
// counts twice: between issuer and verifier, and between this operator and the one that drops the key. A server that
// starts just then may have the files of before for the time of propagation.
func (p Policy) outlive(life time.Duration) time.Duration { return life + 2*p.Skew + p.Propagation }

// correct brings times that cannot be to what can, and says whether there were any. A clock that was ahead must not hold
// up rotations, nor keep a retired key, until the others have caught up.
func (s *Set) correct(p Policy, now time.Time) (wrong bool) {
	for _, t := range []*time.Time{&s.Since, &s.Published, &s.Changed} {
		if t.After(now.Add(p.Skew)) {
			*t, wrong = now, true
		}
	}
	latest := now.Add(p.outlive(longestToken))
	for i := range s.Retired {
		if s.Retired[i].Until.After(latest.Add(p.Skew)) {
			s.Retired[i].Until, wrong = latest, true
		}
	}
	return wrong
}

func begin(s State, p Policy, now time.Time) *Set {
	set := &Set{Since: now, Changed: now, Request: s.Request, TokenLife: wholeSeconds(p.TokenLife)}
	switch {
	case s.Source != nil:
		set.Current = s.Source
	default:
		set.Current = s.Fresh
		if s.Staged != nil && s.Staged.Kid != s.Fresh.Kid {
			next := s.Staged.Public()
			set.Next, set.Published = &next, now
		}
	}
	return set
}

func without(list []Retired, kid string) []Retired {
	var out []Retired
	for _, k := range list {
		if k.Kid != kid {
			out = append(out, k)
		}
	}
	return out
}
