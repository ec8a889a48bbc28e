package keyset_test

import (
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/keyset"
)

var policy = keyset.Policy{
	Algorithm: keyset.ES256, Interval: 24 * time.Hour, TokenLife: 5 * time.Minute, Skew: time.Minute, Propagation: 2 * time.Minute,
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
