package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/atproto/diddoc"
)

const patience = 30 * time.Second

var one = types.NamespacedName{Namespace: "n", Name: "one"}

func loopback() *http.Client {
	return diddoc.NewClient(diddoc.Policy{AllowedPrivateCIDRs: func() []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}}, diddoc.Options{TLS: &tls.Config{MinVersion: tls.VersionTLS12}})
}

func start(t *testing.T) *Prober {
	t.Helper()
	p, err := New(prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Start(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return p
}

func target(url string) Target {
	return Target{URL: url, Client: client, Interval: 5 * time.Millisecond, Timeout: time.Second, FailureThreshold: 3, SuccessThreshold: 2}
}

var client = loopback()

func next(t *testing.T, p *Prober) event.GenericEvent {
	t.Helper()
	select {
	case e := <-p.Events():
		return e
	case <-time.After(patience):
		t.Fatal("no event")
		return event.GenericEvent{}
	}
}

func TestAHoldGoesDownAndComesBack(t *testing.T) {
	var status, asked atomic.Int64
	status.Store(200)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(s.Close)
	p := start(t)
	p.Set(one, target(s.URL), State{})
	state := func() State {
		require.Equal(t, "one", next(t, p).Object.GetName())
		got, ok := p.Published(one)
		require.True(t, ok)
		return got
	}
	require.Equal(t, v1alpha1.Healthy, state().Health)

	status.Store(500)
	down := state()
	require.Equal(t, v1alpha1.Unhealthy, down.Health)
	require.Equal(t, v1alpha1.ReasonBadStatus, down.Reason)
	require.GreaterOrEqual(t, down.ConsecutiveFailures, 3)

	status.Store(200)
	require.Equal(t, v1alpha1.Healthy, state().Health)

	// Nothing is published while nothing changes, however often it is asked.
	n := asked.Load()
	require.Eventually(t, func() bool { return asked.Load() > n+20 }, patience, time.Millisecond)
	require.Empty(t, p.Events())
}

func TestThresholds(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	well, ill := Result{}, Result{Reason: v1alpha1.ReasonTimeout}
	for name, c := range map[string]struct {
		from    v1alpha1.HealthState
		results []Result
		want    v1alpha1.HealthState
		changes int
	}{
		"the first good answer is enough":        {v1alpha1.Unknown, []Result{well}, v1alpha1.Healthy, 1},
		"two failures are not three":             {v1alpha1.Healthy, []Result{ill, ill, well, ill, ill}, v1alpha1.Healthy, 0},
		"three in a row are":                     {v1alpha1.Healthy, []Result{ill, ill, ill}, v1alpha1.Unhealthy, 1},
		"an unknown hold is given its three":     {v1alpha1.Unknown, []Result{ill, ill}, v1alpha1.Unknown, 0},
		"one good answer is not two":             {v1alpha1.Unhealthy, []Result{well, ill, well}, v1alpha1.Unhealthy, 0},
		"two in a row are":                       {v1alpha1.Unhealthy, []Result{well, well}, v1alpha1.Healthy, 1},
		"down, up, down":                         {v1alpha1.Healthy, []Result{ill, ill, ill, well, well, ill, ill, ill}, v1alpha1.Unhealthy, 3},
		"a relapse on the way starts over again": {v1alpha1.Unhealthy, []Result{well, ill, well, well}, v1alpha1.Healthy, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, streak, changes := State{Health: c.from}, 0, 0
			for i, r := range c.results {
				var changed bool
				at := now.Add(time.Duration(i) * time.Minute)
				if s, changed = record(s, &streak, r, 3, 2, at); changed {
					changes++
					require.Equal(t, at, s.Since)
				}
				require.Equal(t, at, s.LastProbe)
			}
			require.Equal(t, c.want, s.Health)
			require.Equal(t, c.changes, changes)
		})
	}
}

func TestEveryFailureHasItsClass(t *testing.T) {
	hang := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(hang) })
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // the client's refusal is the point
	t.Cleanup(secure.Close)
	missing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(missing.Close)
	const gone = "http://127.0.0.1:1" // a port that no system gives out
	strict := diddoc.NewClient(diddoc.Policy{}, diddoc.Options{})

	for url, want := range map[string]string{
		missing.URL: v1alpha1.ReasonBadStatus, gone: v1alpha1.ReasonUnreachable, secure.URL: v1alpha1.ReasonTLSError,
		"http://%zz": v1alpha1.ReasonUnreachable,
	} {
		require.Equal(t, want, check(t.Context(), client, url, patience).Reason, url)
	}
	require.Equal(t, v1alpha1.ReasonTimeout, check(t.Context(), client, slow.URL, 50*time.Millisecond).Reason)
	require.Equal(t, v1alpha1.ReasonBlockedAddress, check(t.Context(), strict, missing.URL, patience).Reason)
}

func TestAHoldMayTakeAsLongAsItsHealthCheckAllows(t *testing.T) {
	const hurry = 20 * time.Millisecond // of the client, which fetches documents too
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-time.After(5 * hurry) }))
	t.Cleanup(s.Close)
	hurried := *client
	hurried.Timeout = hurry
	require.Equal(t, Result{}.Reason, check(t.Context(), &hurried, s.URL, patience).Reason)
	require.Equal(t, hurry, hurried.Timeout)
}

func TestAForgottenHoldIsNotAsked(t *testing.T) {
	var asked atomic.Int64
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1); <-release }))
	t.Cleanup(s.Close)
	p := start(t)
	p.Set(one, target(s.URL), State{})
	require.Eventually(t, func() bool { return asked.Load() == 1 }, patience, time.Millisecond)
	p.Forget(one) // while it is being asked
	close(release)
	_, ok := p.Published(one)
	require.False(t, ok)

	two := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(two.Close)
	p.Set(types.NamespacedName{Name: "two"}, target(two.URL), State{})
	require.Equal(t, "two", next(t, p).Object.GetName(), "the answer for the forgotten one is dropped")
	require.EqualValues(t, 1, asked.Load())
}

func TestWhatWasKnownSurvivesARestartButNotAnotherHold(t *testing.T) {
	p, err := New(prometheus.NewRegistry()) // not started: nothing is asked
	require.NoError(t, err)
	since := time.Now().Add(-time.Hour)
	known := State{Health: v1alpha1.Unhealthy, Reason: v1alpha1.ReasonTimeout, Since: since}
	p.Set(one, target("http://a"), known)
	got, _ := p.Published(one)
	require.Equal(t, known, got)

	changed := target("http://a")
	changed.Interval = time.Minute
	p.Set(one, changed, State{})
	got, _ = p.Published(one)
	require.Equal(t, known, got, "another interval, the same hold")

	p.Set(one, target("http://b"), known)
	got, _ = p.Published(one)
	require.Equal(t, v1alpha1.Unknown, got.Health)
}

// hanging answers nobody before the test ends, and counts who waits.
func hanging(t *testing.T) (url string, waiting *atomic.Int64) {
	t.Helper()
	waiting = &atomic.Int64{}
	end := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		waiting.Add(1)
		defer waiting.Add(-1)
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(end) })
	return s.URL, waiting
}

// What one namespace does to the checks is no other's business: were there one queue for all, nobody would be asked here
// before the first of the checks that hang is given up, which is long after the test.
func TestHoldsThatHangDelayNobodysButTheirOwnNamespace(t *testing.T) {
	url, waiting := hanging(t)
	var status atomic.Int64
	status.Store(http.StatusOK)
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	t.Cleanup(good.Close)
	p := start(t)
	hangs := target(url)
	hangs.Interval, hangs.Timeout = time.Hour, time.Hour
	for _, namespace := range []string{"a", "b"} {
		for i := range 300 {
			p.Set(types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(i)}, hangs, State{})
		}
	}
	const most = shared + 2*own
	require.Eventually(t, func() bool { return waiting.Load() == most }, patience, time.Millisecond)

	quick := target(good.URL)
	quick.Timeout = patience
	holds := 3 * own // more than it may have in flight of its own
	for i := range holds {
		p.Set(types.NamespacedName{Namespace: "tenant", Name: fmt.Sprint(i)}, quick, State{})
	}
	all := func(want v1alpha1.HealthState) {
		seen := map[string]bool{}
		for len(seen) < holds {
			e := next(t, p)
			require.Equal(t, "tenant", e.Object.GetNamespace())
			got, ok := p.Published(types.NamespacedName{Namespace: "tenant", Name: e.Object.GetName()})
			require.True(t, ok)
			require.Equal(t, want, got.Health)
			seen[e.Object.GetName()] = true
		}
	}
	all(v1alpha1.Healthy)
	status.Store(http.StatusInternalServerError)
	all(v1alpha1.Unhealthy)
	require.EqualValues(t, most, waiting.Load(), "and no more than that hang at a time")
}

// The interval is from the beginning of one check to that of the next: what a hold that hangs is late by is one timeout,
// not one for each check.
func TestAHoldThatHangsIsAskedAsOftenAsOneThatAnswers(t *testing.T) {
	clock := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	p, err := New(prometheus.NewRegistry()) // not started
	require.NoError(t, err)
	p.now = func() time.Time { return clock }
	hold := target("http://hold")
	hold.Interval, hold.Timeout, hold.FailureThreshold = 10*time.Second, 10*time.Second, 10
	p.Set(one, hold, State{Health: v1alpha1.Healthy})
	gone, changed := clock.Add(time.Nanosecond), false // right after the first check
	for first := true; !changed; first = false {
		e, wait := p.turn()
		if e == nil {
			clock = clock.Add(wait)
			e, _ = p.turn()
		}
		require.NotNil(t, e)
		begin, r := clock, Result{}
		if !first {
			clock, r = clock.Add(hold.Timeout), Result{Reason: v1alpha1.ReasonTimeout}
		}
		changed = p.fold(e, r, begin) && e.state.Health == v1alpha1.Unhealthy
		require.Nil(t, p.after(e))
	}
	require.LessOrEqual(t, clock.Sub(gone), 10*hold.Interval+hold.Timeout)
}

func TestAThousandHoldsAreAllAsked(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(s.Close)
	p := start(t)
	const holds = 1000
	go func() {
		for i := range holds {
			tg := target(s.URL)
			tg.Interval, tg.Timeout = time.Hour, patience
			p.Set(types.NamespacedName{Name: fmt.Sprint(i)}, tg, State{})
		}
	}()
	seen := map[string]bool{}
	for len(seen) < holds {
		seen[next(t, p).Object.GetName()] = true
	}
	require.EqualValues(t, holds, asked.Load(), "each once, since the interval is an hour")
}
