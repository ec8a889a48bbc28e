package upload

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is stored of an upload may have been written by another release, or be damaged: it is refused, never trusted.
func FuzzStoredState(f *testing.F) {
	s := &Session{Algorithm: "sha256"}
	good, err := (&Sessions{}).encode(s)
	require.NoError(f, err)
	f.Add(good)
	for _, bad := range []string{"", "{}", "null", `{"algorithm":"md5"}`, `{"algorithm":"sha256","hash":"AAAA"}`, `{"algorithm":"sha512","hash":"c2hhAw=="}`,
		`{"algorithm":"sha256","upload":{"partSize":-1}}`, `{"algorithm":"sha256","claimed":-5}`, `{"algorithm":"sha256","upload":{"partSize":1e18}}`} {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, state string) {
		var s Session
		if s.decode(state) != nil {
			return
		}
		require.Contains(t, []string{"sha256", "sha512"}, string(s.Algorithm))
		require.True(t, s.Upload.PartSize >= 0 && s.Upload.PartSize <= 64<<20, "%d", s.Upload.PartSize)
		require.True(t, s.claimed >= 0 && s.claimed <= maxParts)
		if d, err := s.Digest(); err == nil {
			require.NoError(t, d.Validate())
		}
		again, err := (&Sessions{}).encode(&s)
		require.NoError(t, err)
		var same Session
		require.NoError(t, same.decode(again), "what was taken is taken again: %s", again)
		once, err := (&Sessions{}).encode(&same)
		require.NoError(t, err)
		require.Equal(t, again, once)
	})
}

// Releases that know only of uploads that are open at their hold would lose the bytes of one that is not.
func TestAnUploadThatIsNotOpenAtItsHoldIsNoneToAnEarlierRelease(t *testing.T) {
	claimed := func(s *Session) (n int) {
		state, err := (&Sessions{}).encode(s)
		require.NoError(t, err)
		var in stored
		require.NoError(t, json.Unmarshal([]byte(state), &in))
		require.NoError(t, new(Session).decode(state), "to this one it is")
		return in.Claimed
	}
	s := &Session{Algorithm: "sha256"}
	require.Negative(t, claimed(s), "which they refuse")
	s.Upload.ID, s.claimed = "u", 2
	require.Equal(t, 2, claimed(s))
	require.Error(t, new(Session).decode(`{"algorithm":"sha256","upload":{"id":"u"},"claimed":-1}`))
}
