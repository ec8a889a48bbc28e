package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
)

// everyOutage takes each service behind the AppViews away and gives it back: both say 503 with Retry-After to what needs
// it, and are well again by themselves.
func everyOutage(t *testing.T, w *world, repo *repository, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 99))
	lives := []int{w.appViews[0].lives, w.appViews[1].lives}
	for _, o := range []struct {
		part   part
		unable func(ctx context.Context, p *pusher, i *image) error // what cannot be done without it; i's blobs are pushed
	}{
		{w.database, func(ctx context.Context, p *pusher, i *image) error {
			_, err := p.do(ctx, http.MethodGet, repo.name, "/v2/"+repo.name+"/manifests/v0", nil, nil)
			return err
		}},
		{w.pds, func(ctx context.Context, p *pusher, i *image) error {
			_, err := p.do(ctx, http.MethodPut, repo.name, "/v2/"+repo.name+"/manifests/"+string(i.digest), i.raw, http.Header{"Content-Type": {i.mediaType}})
			return err
		}},
		{w.hold, func(ctx context.Context, p *pusher, i *image) error {
			_, err := p.do(ctx, http.MethodPost, repo.name, "/v2/"+repo.name+"/blobs/uploads/?digest="+string(i.digest), i.raw, nil)
			return err
		}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		pushers := make([]*pusher, len(w.appViews))
		for i := range pushers {
			pushers[i] = newPusher(w, rnd.Uint64(), repo, nil)
			pushers[i].only = i
		}
		image := newImage(rnd, nil)
		for _, p := range pushers { // their tokens are good for a while
			for _, b := range image.blobs() {
				require.NoError(t, p.again(ctx, func() error { return p.pushBlob(ctx, b) }))
			}
		}
		require.NoError(t, o.part.kill())
		for i, p := range pushers {
			before := w.count.of("refused")
			err := o.unable(ctx, p, image)
			require.True(t, isAway(err), "%s without %s: %v", w.appViews[i], o.part, err)
			require.Greater(t, w.count.of("refused"), before, "%s without %s broke a connection instead of answering 503: %v", w.appViews[i], o.part, err)
			require.Equal(t, o.part.String() != "database", answers(ctx, w.debug[i]+names.PathReady), "readiness of %s without %s", w.appViews[i], o.part)
		}
		require.NoError(t, o.part.start(ctx))
		for i, p := range pushers {
			require.NoError(t, p.push(ctx, false), "%s, with %s back", w.appViews[i], o.part)
			require.Eventually(t, func() bool { return answers(ctx, w.debug[i]+names.PathReady) }, time.Minute, 20*time.Millisecond)
		}
	}
	for i, p := range w.appViews {
		require.Equal(t, lives[i], p.lives)
		require.True(t, p.running(), "%s", p)
	}
}

// goroutines of a server, as its debug listener tells.
func goroutines(ctx context.Context, debug string) (int, string, error) {
	c := &client{w: &world{}, http: probe}
	a, err := c.send(ctx, http.MethodGet, debug+"/debug/pprof/goroutine?debug=1", nil, nil)
	if err != nil {
		return 0, "", err
	}
	var n int
	_, err = fmt.Sscanf(string(a.body), "goroutine profile: total %d", &n)
	return n, strings.TrimSpace(string(a.body)), err
}
