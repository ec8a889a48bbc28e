package filesystem

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

// Nobody without the key makes a URL that is accepted, and a signed one is accepted only as it was signed.
func FuzzURLs(f *testing.F) {
	now := time.Unix(1_800_000_000, 0)
	s := signer{base: "http://h", key: []byte(strings.Repeat("k", 32)), now: func() time.Time { return now }}
	good := s.sign(partRoute, url.Values{"upload": {"u"}, "part": {"1"}}, now.Add(time.Hour))
	_, query, _ := strings.Cut(good, "?")
	for _, seed := range []string{query, query + "&part=2", query + "&x=y", strings.Replace(query, "part=1", "part=10", 1), "", "sig=", "expires=-1&sig=x", query + ";"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		if _, ok := s.check(blobRoute, q); ok {
			t.Fatalf("a part's signature opened a blob: %q", raw)
		}
		if _, ok := s.check(partRoute, q); ok && q.Encode() != query {
			t.Fatalf("accepted %q", raw)
		}
	})
}
