package server_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
)

// TestEveryRouteNeedsExactlyItsRight sends every method and path with tokens of every action and identity. A token that
// lacks the right is answered 401; one that has it never is.
func TestEveryRouteNeedsExactlyItsRight(t *testing.T) {
	w := servertest.Start(t, servertest.Options{})
	blob := push(t, w, app, []byte("{}"))
	d := string(digest.FromString("absent"))
	routes := []struct{ method, path, right string }{
		{"GET", "/manifests/v1", "pull"}, {"HEAD", "/manifests/v1", "pull"}, {"PUT", "/manifests/v1", "push"}, {"DELETE", "/manifests/v1", "delete"},
		{"GET", "/manifests/" + d, "pull"}, {"HEAD", "/manifests/" + d, "pull"}, {"PUT", "/manifests/" + d, "push"}, {"DELETE", "/manifests/" + d, "delete"},
		{"GET", "/blobs/" + string(blob), "pull"}, {"HEAD", "/blobs/" + string(blob), "pull"}, {"DELETE", "/blobs/" + d, "delete"},
		{"POST", "/blobs/uploads/", "push"}, {"POST", "/blobs/uploads/?mount=" + string(blob) + "&from=" + app, "push"},
		{"GET", "/blobs/uploads/x", "push"}, {"PATCH", "/blobs/uploads/x", "push"}, {"PUT", "/blobs/uploads/x?digest=" + d, "push"}, {"DELETE", "/blobs/uploads/x", "push"},
		{"GET", "/tags/list", "pull"}, {"GET", "/referrers/" + d, "pull"},
	}
	type identity struct{ name, handle, repository string }
	identities := []identity{{"the owner", servertest.Alice, app}, {"another user", servertest.Bob, app}, {"nobody", "", app},
		{"the owner, for another repository", servertest.Alice, app + "-two"}, {"the owner, for a part of the name", servertest.Alice, "alice.test/ap"}}
	tokens := map[string]string{}
	for _, who := range identities {
		for _, action := range []string{"pull", "push", "delete", "*"} {
			tokens[who.name+action] = w.Token(who.handle, "repository:"+who.repository+":"+action)
		}
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	checked := 0
	for _, r := range routes {
		for _, who := range identities {
			for _, action := range []string{"pull", "push", "delete", "*"} {
				req, err := http.NewRequestWithContext(t.Context(), r.method, w.URL+"/v2/"+app+r.path, bytes.NewReader(nil))
				require.NoError(t, err)
				req.Header.Set("Authorization", "Bearer "+tokens[who.name+action])
				resp, err := client.Do(req)
				require.NoError(t, err)
				resp.Body.Close()
				may := (action == r.right || action == "*") && who.repository == app && (who.handle == servertest.Alice || r.right == "pull")
				what := fmt.Sprintf("%s %s by %s with a token for %s: %d", r.method, r.path, who.name, action, resp.StatusCode)
				if may {
					require.NotContains(t, []int{401, 403}, resp.StatusCode, what)
				} else {
					require.Equal(t, 401, resp.StatusCode, what)
					require.True(t, strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="insufficient_scope"`), what)
				}
				require.NotEqual(t, 500, resp.StatusCode, what)
				checked++
			}
		}
	}
	require.Equal(t, len(routes)*len(identities)*4, checked)
	require.Equal(t, 200, w.Do("", "HEAD", "/v2/"+app+"/blobs/"+string(blob), app, nil, nil).StatusCode, "and nobody has deleted anything")
}
