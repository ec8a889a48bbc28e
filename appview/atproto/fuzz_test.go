package atproto

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A PDS may be anybody's, and answer anything.
func FuzzPDSErrors(f *testing.F) {
	f.Add(400, []byte(`{"error":"InvalidSwap","message":"secret"}`), "17", "")
	f.Add(429, []byte(`{"error":"x\ny"}`), "-5", "99999999999999999999")
	f.Add(503, []byte(`<html>`), "Wed, 21 Oct 2065 07:28:00 GMT", "1")
	f.Fuzz(func(t *testing.T, status int, body []byte, retry, reset string) {
		if status < 300 || status > 599 {
			return
		}
		name := errorName(body)
		require.LessOrEqual(t, len(name), 64)
		err := pdsError("doing", status, name, http.Header{"Retry-After": {retry}, "Ratelimit-Reset": {reset}})
		require.Error(t, err)
		require.Less(t, len(err.Error()), 200)
		d := retryAfter(http.Header{"Retry-After": {retry}, "Ratelimit-Reset": {reset}}, time.Unix(1_700_000_000, 0))
		require.True(t, d >= 0 && d <= 24*time.Hour, d)
	})
}

func FuzzExpiryOf(f *testing.F) {
	for _, s := range []string{"", "a.b.c", "x.eyJleHAiOjF9.y", "x.eyJleHAiOjFlMzAwfQ.y", "x.eyJleHAiOi0xfQ==.y", "x.e30.y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if exp, err := ExpiryOf(s); err == nil {
			require.True(t, exp.After(time.Unix(-1, 0)) && exp.Year() < 40_000, exp)
		}
	})
}
