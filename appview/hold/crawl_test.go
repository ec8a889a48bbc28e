package hold_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
)

// relay counts who asks it to be crawled, and answers one status after the other.
func relay(t *testing.T, statuses ...int) (address string, asked chan string) {
	t.Helper()
	asked = make(chan string, 10)
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Hostname string }
		if r.Method != http.MethodPost || r.URL.Path != "/xrpc/com.atproto.sync.requestCrawl" || json.NewDecoder(r.Body).Decode(&in) != nil {
			t.Errorf("not a requestCrawl: %s %s", r.Method, r.URL)
		}
		i := min(int(n.Add(1)), len(statuses)) - 1
		w.WriteHeader(statuses[i])
		asked <- in.Hostname
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func TestRelaysAreAskedToFollowTheHold(t *testing.T) {
	willing, first := relay(t, http.StatusOK)
	busy, second := relay(t, http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusOK)
	unwilling, third := relay(t, http.StatusForbidden)
	w := newWorld(t, func(c *hold.Config) { c.Relays = []string{willing, busy, unwilling} })
	host := strings.TrimPrefix(w.url, "http://")
	require.Equal(t, host, <-first)
	for range 3 {
		require.Equal(t, host, <-second)
	}
	require.Equal(t, host, <-third)

	w.close() // ends what is still asked
	for _, asked := range []chan string{first, second, third} {
		require.Empty(t, asked, "a relay that answered is not asked again")
	}
}

func TestAHoldStopsWhileARelayIsDown(t *testing.T) {
	down, asked := relay(t, http.StatusBadGateway)
	w := newWorld(t, func(c *hold.Config) { c.Relays = []string{down} })
	<-asked
	w.close()
}
