package keyset_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/controllers/keyset"
)

func reread(t *testing.T, s *keyset.OAuthSet) *keyset.OAuthSet {
	t.Helper()
	f, err := s.File()
	require.NoError(t, err)
	back, err := keyset.ParseOAuth(f, s.Record(), now)
	require.NoError(t, err)
	require.Equal(t, s.Record(), back.Record())
	return back
}

func TestAnOAuthKeyStaysWithItsPrivateHalfUntilItsSessionsAreOver(t *testing.T) {
	p := keyset.OAuthPolicy{Interval: 30 * 24 * time.Hour, RetireAfter: 180 * 24 * time.Hour}
	s := &keyset.OAuthSet{Current: generate(t, keyset.ES256), Since: now}
	first := s.Current.Kid
	plan := keyset.DecideOAuth(s, nil, "", p, now)
	require.Equal(t, keyset.Nothing, plan.Action)
	require.Equal(t, p.Interval, plan.After)

	at := now.Add(p.Interval)
	a := keyset.DecideOAuth(s, nil, "", p, at).Action
	require.Equal(t, keyset.Stage, a)
	s = reread(t, keyset.CarryOAuth(s, a, generate(t, keyset.ES256), "", p, at))
	require.NotEqual(t, first, s.Current.Kid)
	require.Equal(t, first, s.Retired[0].Kid)
	require.NotNil(t, s.Retired[0].Signer)

	manual := keyset.OAuthPolicy{RetireAfter: p.RetireAfter}
	plan = keyset.DecideOAuth(s, nil, "", manual, at)
	require.Equal(t, keyset.Nothing, plan.Action)
	require.Equal(t, p.RetireAfter, plan.After)
	at = at.Add(plan.After)
	a = keyset.DecideOAuth(s, nil, "", manual, at).Action
	require.Equal(t, keyset.Drop, a)
	s = reread(t, keyset.CarryOAuth(s, a, nil, "", manual, at))
	require.Empty(t, s.Retired)
}

func TestARequestRotatesTheOAuthKeyOnceAndRevokingTakesEveryEarlierOne(t *testing.T) {
	p := keyset.OAuthPolicy{RetireAfter: time.Hour}
	s := &keyset.OAuthSet{Current: generate(t, keyset.ES256), Since: now}
	for _, request := range []string{"a", "b"} {
		a := keyset.DecideOAuth(s, nil, request, p, now).Action
		require.Equal(t, keyset.Stage, a)
		s = reread(t, keyset.CarryOAuth(s, a, generate(t, keyset.ES256), request, p, now))
		a = keyset.DecideOAuth(s, nil, request, p, now).Action
		require.Equal(t, keyset.Nothing, a)
	}
	require.Len(t, s.Retired, 2)
	a := keyset.DecideOAuth(s, nil, "revoke-1", p, now).Action
	require.Equal(t, keyset.Revoke, a)
	s = reread(t, keyset.CarryOAuth(s, a, generate(t, keyset.ES256), "revoke-1", p, now))
	require.Empty(t, s.Retired)
	a = keyset.DecideOAuth(s, nil, "revoke-1", p, now).Action
	require.Equal(t, keyset.Nothing, a)
}

func TestAProvidedOAuthKeyTakesOverAndARequestCannotMakeAnother(t *testing.T) {
	p := keyset.OAuthPolicy{RetireAfter: time.Hour}
	source := generate(t, keyset.ES256)
	s := &keyset.OAuthSet{Current: generate(t, keyset.ES256), Since: now}
	a := keyset.DecideOAuth(s, source, "", p, now).Action
	require.Equal(t, keyset.Stage, a)
	s = reread(t, keyset.CarryOAuth(s, a, source, "", p, now))
	require.Equal(t, source.Kid, s.Current.Kid)
	a = keyset.DecideOAuth(s, source, "again", p, now).Action
	require.Equal(t, keyset.Mark, a)
	s = keyset.CarryOAuth(s, a, nil, "again", p, now)
	a = keyset.DecideOAuth(s, source, "again", p, now).Action
	require.Equal(t, keyset.Nothing, a)
}

func TestAnOAuthKeyMustBeOnP256(t *testing.T) {
	f, err := (&keyset.OAuthSet{Current: generate(t, keyset.RS256)}).File()
	require.NoError(t, err)
	_, err = keyset.ParseOAuth(f, "", now)
	require.ErrorContains(t, err, "P-256")
	_, err = keyset.ParseOAuth([]byte("s3cret"), "", now)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cret")
}

func TestARevocationOfAProvidedOAuthKeyIsCarriedOutWhenItsSourceChanges(t *testing.T) {
	p := keyset.OAuthPolicy{RetireAfter: time.Hour}
	first := generate(t, keyset.ES256)
	s := &keyset.OAuthSet{Current: generate(t, keyset.ES256), Since: now}
	s = keyset.CarryOAuth(s, keyset.Stage, first, "", p, now)
	plan := keyset.DecideOAuth(s, first, "revoke-1", p, now)
	require.Equal(t, keyset.Purge, plan.Action, "what is earlier goes at once")
	s = reread(t, keyset.CarryOAuth(s, plan.Action, nil, "revoke-1", p, now))
	require.Empty(t, s.Retired)
	plan = keyset.DecideOAuth(s, first, "revoke-1", p, now)
	require.Equal(t, keyset.Plan{Action: keyset.Nothing, Pending: true}, plan)

	second := generate(t, keyset.ES256)
	plan = keyset.DecideOAuth(s, second, "revoke-1", p, now.Add(time.Hour))
	require.Equal(t, keyset.Revoke, plan.Action)
	s = reread(t, keyset.CarryOAuth(s, plan.Action, second, "revoke-1", p, now))
	require.Empty(t, s.Retired)
	require.Equal(t, keyset.Plan{Action: keyset.Nothing}, keyset.DecideOAuth(s, second, "revoke-1", p, now))
}

func TestARetiredOAuthKeyWhoseRecordWasLostGetsOneEnd(t *testing.T) {
	p := keyset.OAuthPolicy{RetireAfter: time.Hour}
	s := &keyset.OAuthSet{Current: generate(t, keyset.ES256), Since: now}
	s = keyset.CarryOAuth(s, keyset.Stage, generate(t, keyset.ES256), "1", p, now)
	f, err := s.File()
	require.NoError(t, err)
	s, err = keyset.ParseOAuth(f, "", now)
	require.NoError(t, err)
	at := now.Add(time.Minute)
	require.Equal(t, keyset.Correct, keyset.DecideOAuth(s, nil, "", p, at).Action)
	s = reread(t, keyset.CarryOAuth(s, keyset.Correct, nil, "", p, at))
	require.Equal(t, at.Add(time.Hour), s.Retired[0].Until)
	later := at.Add(time.Minute)
	require.Equal(t, keyset.Plan{Action: keyset.Nothing, After: 59 * time.Minute}, keyset.DecideOAuth(reread(t, s), nil, "", p, later))
}
