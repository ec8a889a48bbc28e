package keyset_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/controllers/keyset"
)

func reread(t *testing.T, s *keyset.OAuthSet, at time.Time) *keyset.OAuthSet {
	t.Helper()
	f, err := s.File()
	require.NoError(t, err)
	back, err := keyset.ParseOAuth(f, s.Record(), now, at, time.Hour)
	require.NoError(t, err)
	require.Equal(t, s.Record(), back.Record())
	return back
}

func TestAnOAuthKeyStaysWithItsPrivateHalfUntilItsSessionsAreOver(t *testing.T) {
	p := keyset.OAuthPolicy{Interval: 30 * 24 * time.Hour, RetireAfter: 180 * 24 * time.Hour}
	s := &keyset.OAuthSet{Current: generate(t, keyset.ES256), Since: now}
	first := s.Current.Kid
	a, after := keyset.DecideOAuth(s, nil, "", p, now)
	require.Equal(t, keyset.Nothing, a)
	require.Equal(t, p.Interval, after)

	at := now.Add(p.Interval)
	a, _ = keyset.DecideOAuth(s, nil, "", p, at)
	require.Equal(t, keyset.Stage, a)
	s = reread(t, keyset.CarryOAuth(s, a, generate(t, keyset.ES256), "", p, at), at)
	require.NotEqual(t, first, s.Current.Kid)
	require.Equal(t, first, s.Retired[0].Kid)
	require.NotNil(t, s.Retired[0].Signer)

	manual := keyset.OAuthPolicy{RetireAfter: p.RetireAfter}
	a, after = keyset.DecideOAuth(s, nil, "", manual, at)
	require.Equal(t, keyset.Nothing, a)
	require.Equal(t, p.RetireAfter, after)
	at = at.Add(after)
	a, _ = keyset.DecideOAuth(s, nil, "", manual, at)
	require.Equal(t, keyset.Drop, a)
	s = reread(t, keyset.CarryOAuth(s, a, nil, "", manual, at), at)
	require.Empty(t, s.Retired)
}

func TestARequestRotatesTheOAuthKeyOnceAndRevokingTakesEveryEarlierOne(t *testing.T) {
	p := keyset.OAuthPolicy{RetireAfter: time.Hour}
	s := &keyset.OAuthSet{Current: generate(t, keyset.ES256), Since: now}
	for _, request := range []string{"a", "b"} {
		a, _ := keyset.DecideOAuth(s, nil, request, p, now)
		require.Equal(t, keyset.Stage, a)
		s = reread(t, keyset.CarryOAuth(s, a, generate(t, keyset.ES256), request, p, now), now)
		a, _ = keyset.DecideOAuth(s, nil, request, p, now)
		require.Equal(t, keyset.Nothing, a)
	}
	require.Len(t, s.Retired, 2)
	a, _ := keyset.DecideOAuth(s, nil, "revoke-1", p, now)
	require.Equal(t, keyset.Revoke, a)
	s = reread(t, keyset.CarryOAuth(s, a, generate(t, keyset.ES256), "revoke-1", p, now), now)
	require.Empty(t, s.Retired)
	a, _ = keyset.DecideOAuth(s, nil, "revoke-1", p, now)
	require.Equal(t, keyset.Nothing, a)
}

func TestAProvidedOAuthKeyTakesOverAndARequestCannotMakeAnother(t *testing.T) {
	p := keyset.OAuthPolicy{RetireAfter: time.Hour}
	source := generate(t, keyset.ES256)
	s := &keyset.OAuthSet{Current: generate(t, keyset.ES256), Since: now}
	a, _ := keyset.DecideOAuth(s, source, "", p, now)
	require.Equal(t, keyset.Stage, a)
	s = reread(t, keyset.CarryOAuth(s, a, source, "", p, now), now)
	require.Equal(t, source.Kid, s.Current.Kid)
	a, _ = keyset.DecideOAuth(s, source, "again", p, now)
	require.Equal(t, keyset.Mark, a)
	s = keyset.CarryOAuth(s, a, nil, "again", p, now)
	a, _ = keyset.DecideOAuth(s, source, "again", p, now)
	require.Equal(t, keyset.Nothing, a)
}

func TestAnOAuthKeyMustBeOnP256(t *testing.T) {
	f, err := (&keyset.OAuthSet{Current: generate(t, keyset.RS256)}).File()
	require.NoError(t, err)
	_, err = keyset.ParseOAuth(f, "", now, now, time.Hour)
	require.ErrorContains(t, err, "P-256")
	_, err = keyset.ParseOAuth([]byte("s3cret"), "", now, now, time.Hour)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "s3cret")
}
