package server_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/server/servertest"
)

var update = flag.Bool("update", false, "write testdata/access-*.txt anew; review the difference")

// forged is a token of the server's own key, or of another, with claims of the test's choice.
func forged(t *testing.T, w *servertest.World, ownKey bool, change func(*auth.Issuer), who auth.Subject, actions ...string) string {
	t.Helper()
	cfg, err := config.Load(w.Environ())
	require.NoError(t, err)
	files := auth.KeyFiles{KeyPath: cfg.AuthKeyPath, CertPath: cfg.AuthCertPath, Required: true}
	if !ownKey {
		dir := t.TempDir()
		files = auth.KeyFiles{KeyPath: filepath.Join(dir, "key.pem"), CertPath: filepath.Join(dir, "cert.pem"), Service: cfg.ServiceName}
	}
	keys, err := auth.OpenKeys(files, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	issuer := auth.Issuer{Keys: keys, Service: cfg.ServiceName, Life: time.Minute, Now: time.Now}
	if change != nil {
		change(&issuer)
	}
	token, _, err := issuer.Issue(who, []auth.Access{{Type: "repository", Name: app, Actions: actions}, {Type: "registry", Name: "catalog", Actions: []string{"*"}}})
	require.NoError(t, err)
	return token
}

const carol = "carol.test"

// TestTheStatusOfEveryRequest sends every method on every kind of path with every kind of credential, and compares the
// statuses with a table that people have read: appview/server/testdata/access-*.txt. What a route needs is in
// appview/oci/routes.go; here is what comes of it.
func TestTheStatusOfEveryRequest(t *testing.T) {
	for _, public := range []bool{true, false} {
		name := map[bool]string{true: "public", false: "private"}[public]
		t.Run(name+" hold", func(t *testing.T) { statuses(t, name, public) })
	}
}

func statuses(t *testing.T, name string, public bool) {
	w := servertest.Start(t, servertest.Options{
		Accounts: []devnet.Account{{Handle: servertest.Alice}, {Handle: servertest.Bob}, {Handle: carol}},
		HoldEnv:  map[string]string{names.HoldPublic: fmt.Sprint(public), names.HoldAllowAllCrew: "true"},
	})
	// Carol joins the crew, as everybody does who pushes something of her own. Bob has not.
	require.Equal(t, http.StatusAccepted, w.Do(carol, http.MethodPost, "/v2/carol.test/x/blobs/uploads/", "carol.test/x", nil, nil).StatusCode)
	blob := push(t, w, app, []byte("{}"))
	manifest := manifestOf(blob, push(t, w, app, []byte("layer")), 2, 5)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Alice, app, "v1", manifest).StatusCode)
	absent := string(digest.FromString("absent"))

	read := []string{"GET", "HEAD"}
	all := []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"}
	in := "/v2/" + app
	rows := []struct {
		what, path string
		methods    []string
	}{
		{"/v2/", "/v2/", all},
		{"/v2/_catalog", "/v2/_catalog", all},
		{"manifests/v1", in + "/manifests/v1", read},
		{"manifests/<digest>", in + "/manifests/" + string(digest.FromBytes(manifest)), read},
		{"manifests/<no tag>", in + "/manifests/none", all},
		{"manifests/<no digest>", in + "/manifests/" + absent, all},
		{"blobs/<digest>", in + "/blobs/" + string(blob), read},
		{"blobs/<no digest>", in + "/blobs/" + absent, all},
		{"blobs/uploads/", in + "/blobs/uploads/", all},
		{"blobs/uploads/?mount", in + "/blobs/uploads/?mount=" + string(blob) + "&from=alice.test/other", []string{"POST"}},
		{"blobs/uploads/<no id>", in + "/blobs/uploads/AAAAAAAAAAAAAAAAAAAAAA?digest=" + absent, all},
		{"tags/list", in + "/tags/list", all},
		{"referrers/<digest>", in + "/referrers/" + absent, all},
		{"<no noun>", in + "/nouns/x", all},
	}
	everything := func(repository string) []string {
		return []string{"repository:" + repository + ":pull,push,delete", "registry:catalog:*"}
	}
	owner := auth.Subject{DID: w.Account(servertest.Alice).DID}
	columns := []struct{ what, token string }{
		{"no token", ""},
		{"anonymous", w.Token("", everything(app)...)},
		{"owner:pull", w.Token(servertest.Alice, "repository:"+app+":pull")},
		{"owner:push", w.Token(servertest.Alice, "repository:"+app+":push")},
		{"owner:delete", w.Token(servertest.Alice, "repository:"+app+":delete")},
		{"owner:all", w.Token(servertest.Alice, everything(app)...)},
		{"owner:other-repo", w.Token(servertest.Alice, "repository:"+app+"2:pull,push,delete")},
		{"owner:nothing", w.Token(servertest.Alice)},
		{"stranger:all", w.Token(servertest.Bob, everything(app)...)},
		{"crew:all", w.Token(carol, everything(app)...)},
		// What the server would never issue, with its own key: rights over somebody else's repository.
		{"stranger:forged", forged(t, w, true, nil, auth.Subject{DID: w.Account(servertest.Bob).DID}, "pull", "push", "delete")},
		{"expired", forged(t, w, true, func(i *auth.Issuer) { i.Now = func() time.Time { return time.Now().Add(-time.Hour) } }, owner, "pull", "push", "delete")},
		{"other-service", forged(t, w, true, func(i *auth.Issuer) { i.Service = "other.example.com" }, owner, "pull", "push", "delete")},
		{"other-key", forged(t, w, false, nil, owner, "pull", "push", "delete")},
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "Alice's repository, on a %s hold. Columns are what a request carries; cells are the answer's status.\n", name)
	fmt.Fprintf(&out, "Written by: go test ./appview/server -run TestTheStatusOfEveryRequest -update\n\n")
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "method\tpath")
	for _, c := range columns {
		fmt.Fprint(table, "\t"+c.what)
	}
	fmt.Fprintln(table)
	var always []string
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, r := range rows {
		for _, method := range r.methods {
			var cells []string
			for _, c := range columns {
				req, err := http.NewRequestWithContext(t.Context(), method, w.URL+r.path, strings.NewReader(""))
				require.NoError(t, err)
				if c.token != "" {
					req.Header.Set("Authorization", "Bearer "+c.token)
				}
				resp, err := client.Do(req)
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				require.NoError(t, err)
				what := fmt.Sprintf("%s %s with %s: %d", method, r.what, c.what, resp.StatusCode)
				require.Equal(t, resp.StatusCode == http.StatusUnauthorized, resp.Header.Get("WWW-Authenticate") != "", what)
				if resp.StatusCode == http.StatusTemporaryRedirect {
					require.Equal(t, "private, no-store", resp.Header.Get("Cache-Control"), what)
					require.Empty(t, resp.Header.Get("Authorization"), what)
				}
				cells = append(cells, fmt.Sprint(resp.StatusCode))
			}
			if len(slices.Compact(slices.Clone(cells))) == 1 {
				always = append(always, method+" "+r.what+": "+cells[0])
				continue
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", method, r.what, strings.Join(cells, "\t"))
		}
	}
	require.NoError(t, table.Flush())
	fmt.Fprintf(&out, "\nWhatever the request carries:\n%s\n", strings.Join(always, "\n"))
	path := filepath.Join("testdata", "access-"+name+".txt")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), out.String(), "an answer changed; if that is meant, run with -update and have the difference read")
}
