package server_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"atcr.io/operator/appview/server/servertest"
)

// shelf is what a registry should hold in one repository.
type shelf struct {
	manifests map[digest.Digest]bool
	tags      map[string]digest.Digest
}

// model is a registry of two repositories of one owner, in memory, and the content that a run pushes.
type model struct {
	blobs   map[digest.Digest][]byte
	bodies  map[digest.Digest][]byte
	uses    map[digest.Digest][]digest.Digest // a manifest's blobs
	subject map[digest.Digest]digest.Digest   // the manifest that it refers to
	order   []digest.Digest                   // the manifests; those that refer come last

	present map[digest.Digest]bool // blobs: they are the owner's, not a repository's
	repos   map[string]*shelf
}

// newModel has three blobs, two images of them, and two referrers to the first image. salt makes them this run's own.
func newModel(salt string) *model {
	m := &model{blobs: map[digest.Digest][]byte{}, bodies: map[digest.Digest][]byte{}, uses: map[digest.Digest][]digest.Digest{},
		subject: map[digest.Digest]digest.Digest{}, present: map[digest.Digest]bool{}, repos: map[string]*shelf{}}
	var blobs []digest.Digest
	for _, name := range []string{"config", "one", "two"} {
		b := []byte(salt + name)
		blobs = append(blobs, digest.FromBytes(b))
		m.blobs[digest.FromBytes(b)] = b
	}
	for i, layer := range []digest.Digest{blobs[1], blobs[2], blobs[1], blobs[2]} {
		body := manifestOf(blobs[0], layer, len(m.blobs[blobs[0]]), len(m.blobs[layer]))
		if i >= 2 {
			body = fmt.Appendf(bytes.TrimSuffix(body, []byte("}")), `,"artifactType":"a/%d","subject":{"mediaType":"a/b","digest":%q,"size":%d}}`,
				i, m.order[0], len(m.bodies[m.order[0]]))
		}
		d := digest.FromBytes(body)
		if i >= 2 {
			m.subject[d] = m.order[0]
		}
		m.order, m.bodies[d], m.uses[d] = append(m.order, d), body, []digest.Digest{blobs[0], layer}
	}
	for _, repo := range []string{"alice.test/x" + salt, "alice.test/y" + salt} {
		m.repos[repo] = &shelf{map[digest.Digest]bool{}, map[string]digest.Digest{}}
	}
	return m
}

func (m *model) push(repo, tag string, d digest.Digest) int {
	for _, b := range m.uses[d] {
		if !m.present[b] {
			return http.StatusBadRequest
		}
	}
	m.repos[repo].manifests[d] = true
	if tag != "" {
		m.repos[repo].tags[tag] = d
	}
	return http.StatusCreated
}

func (m *model) deleteManifest(repo string, d digest.Digest) int {
	if !m.repos[repo].manifests[d] {
		return http.StatusNotFound
	}
	delete(m.repos[repo].manifests, d)
	maps.DeleteFunc(m.repos[repo].tags, func(_ string, named digest.Digest) bool { return named == d })
	for _, other := range m.repos { // a referrer elsewhere keeps its subject, there
		if len(m.referrers(other, d)) > 0 && other != m.repos[repo] {
			other.manifests[d] = true
		}
	}
	return http.StatusAccepted
}

func (m *model) deleteTag(repo, tag string) int {
	if _, ok := m.repos[repo].tags[tag]; !ok {
		return http.StatusNotFound
	}
	delete(m.repos[repo].tags, tag)
	return http.StatusAccepted
}

func (m *model) deleteBlob(b digest.Digest) int {
	if !m.present[b] {
		return http.StatusNotFound
	}
	for _, s := range m.repos {
		for d := range s.manifests {
			if slices.Contains(m.uses[d], b) {
				return http.StatusConflict
			}
		}
	}
	delete(m.present, b)
	return http.StatusAccepted
}

func (m *model) referrers(s *shelf, d digest.Digest) (list []string) {
	for r := range s.manifests {
		if m.subject[r] == d {
			list = append(list, string(r))
		}
	}
	slices.Sort(list)
	return list
}

// Three sequences of each kind, the same each time: what fails here was changed. -rapid.checks=1000 runs that many others.
func TestWhateverIsDoneInWhateverOrderTheRegistryAnswersAsTheModelSays(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		for name, value := range map[string]string{"rapid.checks": "3", "rapid.seed": "1"} {
			f := flag.Lookup(name)
			usual := f.Value.String()
			require.NoError(t, f.Value.Set(value))
			t.Cleanup(func() { require.NoError(t, f.Value.Set(usual)) })
		}
	}
	t.Run("sqlite", func(t *testing.T) { agree(t, servertest.Start(t, servertest.Options{})) })
	t.Run("two replicas over postgresql", func(t *testing.T) {
		a, b := replicas(t, servertest.Options{})
		agree(t, a, b)
	})
}

func agree(t *testing.T, worlds ...*servertest.World) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := newModel(fmt.Sprintf("r%d", run))
		names := slices.Sorted(maps.Keys(m.repos))
		var scopes []string
		for _, name := range names {
			scopes = append(scopes, "repository:"+name+":pull,push,delete")
		}
		c := modelClient{rt, worlds, worlds[0].Token(servertest.Alice, scopes...)}
		repo := func() string { return rapid.SampledFrom(names).Draw(rt, "repository") }
		tag := func() string { return rapid.SampledFrom([]string{"v1", "v2"}).Draw(rt, "tag") }
		manifest := func() digest.Digest { return rapid.SampledFrom(m.order).Draw(rt, "manifest") }
		blob := func() digest.Digest { return rapid.SampledFrom(slices.Sorted(maps.Keys(m.blobs))).Draw(rt, "blob") }
		put := func(rt *rapid.T) {
			r, d, named := repo(), manifest(), ""
			ref := string(d)
			if rapid.Bool().Draw(rt, "by tag") {
				named = tag()
				ref = named
			}
			c.expect(m.push(r, named, d), http.MethodPut, "/v2/"+r+"/manifests/"+ref, m.bodies[d])
		}
		upload := func(*rapid.T) {
			r, b := repo(), blob()
			c.expect(http.StatusCreated, http.MethodPost, "/v2/"+r+"/blobs/uploads/?digest="+string(b), m.blobs[b])
			m.present[b] = true
		}
		for _, b := range slices.Sorted(maps.Keys(m.blobs)) { // else most manifests are refused
			c.expect(http.StatusCreated, http.MethodPost, "/v2/"+names[0]+"/blobs/uploads/?digest="+string(b), m.blobs[b])
			m.present[b] = true
		}
		rt.Repeat(map[string]func(*rapid.T){
			"push": put, "push or retag": put, "upload": upload,
			"mount": func(*rapid.T) {
				r, b, want := repo(), blob(), http.StatusAccepted
				if m.present[b] {
					want = http.StatusCreated
				}
				at, _ := c.expect(want, http.MethodPost, "/v2/"+r+"/blobs/uploads/?mount="+string(b)+"&from="+names[0], nil)
				if want == http.StatusAccepted {
					c.expect(http.StatusNoContent, http.MethodDelete, at.Get("Location"), nil)
				}
			},
			"delete a tag": func(*rapid.T) {
				r, name := repo(), tag()
				c.expect(m.deleteTag(r, name), http.MethodDelete, "/v2/"+r+"/manifests/"+name, nil)
			},
			"delete a manifest": func(*rapid.T) {
				r, d := repo(), manifest()
				c.expect(m.deleteManifest(r, d), http.MethodDelete, "/v2/"+r+"/manifests/"+string(d), nil)
			},
			"delete a blob": func(*rapid.T) {
				r, b := repo(), blob()
				c.expect(m.deleteBlob(b), http.MethodDelete, "/v2/"+r+"/blobs/"+string(b), nil)
			},
			"": func(*rapid.T) { c.compare(m, repo()) },
		})
	})
}

// modelClient sends each request to any of the replicas.
type modelClient struct {
	t      *rapid.T
	worlds []*servertest.World
	token  string
}

func (c modelClient) expect(status int, method, path string, body []byte) (http.Header, []byte) {
	w := rapid.SampledFrom(c.worlds).Draw(c.t, "replica")
	req, err := http.NewRequest(method, w.URL+path, bytes.NewReader(body))
	require.NoError(c.t, err)
	req.Header.Set("Authorization", "Bearer "+c.token)
	if method == http.MethodPut {
		req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, status, resp.StatusCode, "%s %s: %s", method, path, got)
	return resp.Header, got
}

// compare reads all of a repository.
func (c modelClient) compare(m *model, repo string) {
	s := m.repos[repo]
	get := func(path string, there bool, want []byte) {
		if !there {
			c.expect(http.StatusNotFound, http.MethodGet, "/v2/"+repo+path, nil)
			return
		}
		_, got := c.expect(http.StatusOK, http.MethodGet, "/v2/"+repo+path, nil)
		require.Equal(c.t, string(want), string(got), path)
	}
	for _, d := range m.order {
		get("/manifests/"+string(d), s.manifests[d], m.bodies[d])
	}
	for _, name := range []string{"v1", "v2"} {
		d, ok := s.tags[name]
		get("/manifests/"+name, ok, m.bodies[d])
	}
	if len(s.manifests) > 0 {
		_, got := c.expect(http.StatusOK, http.MethodGet, "/v2/"+repo+"/tags/list", nil)
		var list struct{ Tags []string }
		require.NoError(c.t, json.Unmarshal(got, &list))
		require.ElementsMatch(c.t, slices.Sorted(maps.Keys(s.tags)), list.Tags)
	}
	_, got := c.expect(http.StatusOK, http.MethodGet, "/v2/"+repo+"/referrers/"+string(m.order[0]), nil)
	var index struct{ Manifests []struct{ Digest string } }
	require.NoError(c.t, json.Unmarshal(got, &index))
	var found []string
	for _, r := range index.Manifests {
		found = append(found, r.Digest)
	}
	require.Equal(c.t, m.referrers(s, m.order[0]), found)
}
