package server_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
)

func TestMetricsOfAPushAndAPullAreRightAndClean(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	img, err := random.Image(1000, 2)
	require.NoError(t, err)
	ref := w.Host() + "/" + app + ":v1"
	require.NoError(t, crane.Push(img, ref, crane.WithAuth(w.Auth(servertest.Alice))))
	_, err = crane.Manifest(ref)
	require.NoError(t, err)
	refuses(t, w.Do("", http.MethodGet, "/v2/"+app+"/manifests/none", app, nil, nil), 404, "MANIFEST_UNKNOWN", "")

	body := scrape(t, w.DebugURL)
	for _, line := range []string{
		`atcr_requests_total{method="PUT",route="manifest",status="201"} 1`,
		`atcr_requests_total{method="GET",route="manifest",status="404"} 1`,
		`atcr_token_requests_total{result="granted"}`, `atcr_token_requests_total{result="anonymous"}`,
		`atcr_upstream_requests_total{method="com.atproto.server.createSession",service="pds",status="200"} 1`,
		`atcr_upstream_requests_total{method="com.atproto.repo.applyWrites",service="pds",status="200"} `,
		`atcr_upstream_requests_total{method="io.atcr.hold.completeUpload",service="hold",status="200"} 3`,
		`atcr_upstream_requests_total{method="document",service="identity",status="200"}`,
		`atcr_cache_requests_total{cache="token",result="hit"}`,
		`atcr_token_keys 1`, `atcr_token_key_set_info{hash="`, `atcr_database_up 1`, `atcr_upload_sessions 0`,
		`atcr_reloads_total{file="keys",result="failed"} 0`,
	} {
		require.True(t, strings.Contains(body, line), line)
	}
	require.False(t, strings.Contains(body, strings.TrimPrefix(w.Devnet.URL(), "http://")), "no peer is a label")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	require.NoError(t, err)
	for _, p := range problems {
		require.False(t, strings.HasPrefix(p.Metric, "atcr_"), "%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsTellWhatTheReadPathCosts(t *testing.T) {
	var pds calls
	w := servertest.Start(t, servertest.Options{WrapPDS: pds.wrap})
	config, layer := push(t, w, app, []byte("{}")), push(t, w, app, []byte("layer"))
	body := manifestOf(config, layer, 2, 5)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", body).StatusCode)
	other := w.Fresh()
	nobody := client{t, other.Token("", "repository:"+app+":pull")}
	count := func(line string) (n int) {
		_, rest, found := strings.Cut(scrape(t, other.DebugURL), "\n"+line+" ")
		require.True(t, found, line)
		_, err := fmt.Sscan(rest, &n)
		require.NoError(t, err)
		return n
	}
	cache := func(name, result string) int {
		return count(`atcr_cache_requests_total{cache="` + name + `",result="` + result + `"}`)
	}
	for range 3 {
		require.NotEmpty(t, nobody.digestOf(other, "v1"))
		require.NotEmpty(t, nobody.digestOf(other, string(digest.FromBytes(body))))
		require.Empty(t, nobody.digestOf(other, "none"))
	}
	require.Equal(t, 5, cache("bytes", "hit"))
	require.Equal(t, 1, cache("bytes", "miss"))
	require.Equal(t, 2, cache("tag", "hit"))
	require.Equal(t, 2, cache("tag", "miss"))
	require.Equal(t, 2, cache("tag", "absent"))
	require.Equal(t, 2, cache("manifest", "hit"))
	require.Equal(t, 1, count(`atcr_mirror_syncs_total{result="read"}`))
	require.Zero(t, count(`atcr_mirror_syncs_total{result="failed"}`))

	pds.down.Store(true)
	require.Eventually(t, func() bool {
		require.NotEmpty(t, nobody.digestOf(other, "v1"))
		return count(`atcr_mirror_syncs_total{result="failed"}`) > 0
	}, time.Minute, 20*time.Millisecond, "asked again when the mirror is two seconds old")
	require.Positive(t, count(`atcr_mirror_stale_answers_total`))
}

func scrape(t *testing.T, debug string) string {
	t.Helper()
	resp, err := http.Get(debug + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(b))
	return string(b)
}

func TestTheDebugListenerAnswersProbesAndProfiles(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	for _, path := range []string{"/livez", "/healthz", "/readyz", "/metrics", "/debug/pprof/", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline"} {
		resp, err := http.Get(w.DebugURL + path)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		resp, err = http.Get(w.URL + path)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusNotFound, resp.StatusCode, "not for the public: %s", path)
	}
}

func TestTheListOfMetricsIsTrue(t *testing.T) {
	w := servertest.Start(t, servertest.Options{AppViewEnv: map[string]string{names.BackupDir: t.TempDir()}})
	table, err := w.AppView.MetricsTable()
	require.NoError(t, err)
	compareMetrics(t, "metrics.md", table)
}

// compareMetrics compares the table in a Markdown file with what a registry exposes; UPDATE_METRICS=1 writes it.
func compareMetrics(t *testing.T, path, table string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	text, _, found := strings.Cut(string(b), "| metric |")
	require.True(t, found, "%s has a table", path)
	if os.Getenv("UPDATE_METRICS") != "" {
		require.NoError(t, os.WriteFile(path, []byte(text+table), 0o644))
		return
	}
	require.Equal(t, text+table, string(b), "%s is stale: run this test with UPDATE_METRICS=1", path)
}
