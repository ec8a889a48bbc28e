package holdclient_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"
)

// captains is a server of many holds: their captain records by DID.
func captains(t *testing.T, records map[string]string) (f *foreign, asked *atomic.Int32) {
	asked = new(atomic.Int32)
	f = newForeign(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		require.Empty(t, r.Header.Get("Authorization"), "captain records are public")
		require.Equal(t, "io.atcr.hold.captain/self", r.URL.Query().Get("collection")+"/"+r.URL.Query().Get("rkey"))
		switch rec := records[r.URL.Query().Get("repo")]; rec {
		case "":
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"RecordNotFound"}`)
		case "down":
			w.WriteHeader(http.StatusBadGateway)
		default:
			fmt.Fprintf(w, `{"value":%s}`, rec)
		}
	})
	return f, asked
}

func successor(n int) string { return fmt.Sprintf(`{"successor":"did:web:h%d.example"}`, n) }

func TestTheLineOfAHold(t *testing.T) {
	const owner = `{"owner":"did:plc:abc"}`
	for name, c := range map[string]struct {
		records []string // of h0, h1, ...
		want    string
	}{
		"no captain record":             {[]string{""}, "0"},
		"no successor":                  {[]string{owner}, "0"},
		"one":                           {[]string{successor(1), owner}, "0 1"},
		"without a captain record":      {[]string{successor(1), ""}, "0 1"},
		"five":                          {[]string{successor(1), successor(2), successor(3), successor(4), successor(5), owner}, "0 1 2 3 4 5"},
		"six":                           {[]string{successor(1), successor(2), successor(3), successor(4), successor(5), successor(6), owner}, "0"},
		"itself":                        {[]string{successor(0)}, "0"},
		"back to the first":             {[]string{successor(1), successor(0)}, "0"},
		"back to another":               {[]string{successor(1), successor(2), successor(1)}, "0"},
		"down at the start":             {[]string{"down"}, "0"},
		"down at the end":               {[]string{successor(1), successor(2), "down"}, "0 1"},
		"an answer that is no record":   {[]string{successor(1), "nonsense"}, "0"},
		"an endless one":                {[]string{successor(1), `{"x":"` + strings.Repeat("x", 100_000) + `"}`}, "0"},
		"a successor that is not a DID": {[]string{`{"successor":"https://h1.example"}`}, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			records := map[string]string{}
			for i, r := range c.records {
				records[fmt.Sprintf("did:web:h%d.example", i)] = r
			}
			f, _ := captains(t, records)
			var want []syntax.DID
			for n := range strings.FieldsSeq(c.want) {
				want = append(want, syntax.DID("did:web:h"+n+".example"))
			}
			require.Equal(t, want, f.client.Lineage(t.Context(), "did:web:h0.example"))
		})
	}
}

func TestASuccessorIsAskedForAgainAfterAWhileAndOutlivesTheHoldThatNamedIt(t *testing.T) {
	now := time.Now()
	records := map[string]string{"did:web:a.example": `{}`, "did:web:b.example": `{}`}
	f, asked := captains(t, records)
	f.client.WithClock(func() time.Time { return now })
	line := func() string {
		return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(f.client.Lineage(t.Context(), "did:web:a.example")), "[]")), " ")
	}
	require.Equal(t, "did:web:a.example", line())
	records["did:web:a.example"] = `{"successor":"did:web:b.example"}`
	require.Equal(t, "did:web:a.example", line())
	require.EqualValues(t, 1, asked.Load(), "remembered")
	now = now.Add(5*time.Minute + time.Second)
	require.Equal(t, "did:web:a.example did:web:b.example", line())

	records["did:web:a.example"] = "down"
	now = now.Add(5*time.Minute + time.Second)
	require.Equal(t, "did:web:a.example did:web:b.example", line(), "the old hold has been switched off")
	records["did:web:a.example"] = `{}`
	now = now.Add(time.Minute)
	require.Equal(t, "did:web:a.example", line(), "and is back, without a successor")
}
