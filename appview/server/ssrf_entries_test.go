package server_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

// entries are the places where a user, a record, a DID document or a hold chooses a URL. Those that are followed never
// lead to no connection even where the address itself is allowed: most are redirects. One without an answer is of a
// request that does without what it asked for.
var entries = []struct {
	name  string
	never bool
	try   func(s *strangers) *http.Response
}{
	{"the PDS of a DID document", false, func(s *strangers) *http.Response {
		return s.get(alias(s.identity('a', "atproto_pds", s.inside.url())), "/manifests/v1")
	}},
	{"the PDS of a DID document, as an IPv4 address in IPv6", false, func(s *strangers) *http.Response {
		return s.get(alias(s.identity('b', "atproto_pds", "http://[::ffff:127.0.0.66]:"+s.inside.port())), "/manifests/v1")
	}},
	{"the PDS of a DID document, by https", false, func(s *strangers) *http.Response {
		return s.get(alias(s.identity('c', "atproto_pds", "https://"+s.inside.at())), "/manifests/v1")
	}},
	{"the PDS of a DID document, with user information", true, func(s *strangers) *http.Response {
		return s.get(alias(s.identity('d', "atproto_pds", "http://user:pw@"+s.inside.at())), "/manifests/v1")
	}},
	{"the PDS that gets a password", false, func(s *strangers) *http.Response {
		return s.login(s.identity('e', "atproto_pds", s.inside.url()))
	}},
	{"a did:web as owner", false, func(s *strangers) *http.Response { return s.get(alias(s.inside.did()), "/manifests/v1") }},
	{"a did:web that logs in", false, func(s *strangers) *http.Response {
		s.identity('f', "atproto_pds", "http://localhost")
		return s.login(strings.Replace(s.inside.did(), "%3A", ":", 1))
	}},
	{"a handle of a did:web", false, func(s *strangers) *http.Response {
		s.mu.Lock()
		s.handles["stranger.test"] = s.inside.did()
		s.mu.Unlock()
		return s.get("stranger.test", "/manifests/v1")
	}},
	{"holdDid of a manifest", false, func(s *strangers) *http.Response {
		s.manifest("a.test", "holdDid", s.inside.did())
		return s.blob(http.MethodGet, "a.test")
	}},
	{"holdEndpoint of an old manifest", false, func(s *strangers) *http.Response {
		s.manifest("b.test", "holdEndpoint", s.inside.url())
		return s.blob(http.MethodGet, "b.test")
	}},
	{"the endpoint of a hold's document", false, func(s *strangers) *http.Response {
		s.manifest("c.test", "holdDid", s.identity('g', "atcr_hold", s.inside.url()))
		return s.blob(http.MethodGet, "c.test")
	}},
	{"defaultHold of a profile", false, func(s *strangers) *http.Response {
		s.profile("d.test", s.inside.did())
		return s.upload("d.test")
	}},
	{"the endpoint of a hold's did.json", false, func(s *strangers) *http.Response {
		s.profile("l.test", s.another("did.json", func(w http.ResponseWriter, r *http.Request) {
			holdDocument(w, "did:web:"+strings.Replace(r.Host, ":", "%3A", 1), s.inside.url())
		}))
		return s.upload("l.test")
	}},
	{"the successor of a hold", false, func(s *strangers) *http.Response {
		s.profile("m.test", s.another("com.atproto.repo.getRecord", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"value":{"successor":%q}}`, s.inside.did())
		}))
		require.Equal(s.t, http.StatusAccepted, s.upload("m.test").StatusCode, "the hold before it takes the upload")
		return nil
	}},
	{"the urls of a foreign layer", true, func(s *strangers) *http.Response {
		layer := digest.FromString("foreign")
		s.profile("n.test", s.another("com.atproto.sync.getBlob", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("cid") == string(layer) {
				http.NotFound(w, r)
				return
			}
			_, _ = io.WriteString(w, "{}") // the config
		}))
		resp := putManifest(s.World, "n.test", "n.test/app", "v1", fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
			"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},
			"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip","digest":"%s","size":7,"urls":["%s"]}]}`,
			digest.FromString("{}"), layer, s.inside.url()))
		require.Equal(s.t, http.StatusCreated, resp.StatusCode)
		return s.Do("", http.MethodGet, "/v2/n.test/app/blobs/"+string(layer), "n.test/app", nil, nil)
	}},
	{"a redirect of a download URL", false, func(s *strangers) *http.Response {
		s.on("moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.inside.url(), http.StatusFound) })
		s.manifest("o.test", "holdDid", s.another("com.atproto.sync.getBlob", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"url":"%s/moved"}`, s.hold.URL)
		}))
		return s.blob(http.MethodHead, "o.test")
	}},
	{"a legacy hold record", false, func(s *strangers) *http.Response {
		s.record("e.test", "io.atcr.hold", "mine", map[string]any{"endpoint": s.inside.url(), "createdAt": "2026-01-01T00:00:00Z"})
		return s.upload("e.test")
	}},
	{"a download URL in JSON", false, func(s *strangers) *http.Response {
		s.on("com.atproto.sync.getBlob", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"url":"%s/blob"}`, s.inside.url())
		})
		s.manifest("f.test", "holdDid", s.holdDID())
		return s.blob(http.MethodHead, "f.test")
	}},
	{"a download URL by redirect", false, func(s *strangers) *http.Response {
		s.on("com.atproto.sync.getBlob", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, s.inside.url()+"/blob", http.StatusTemporaryRedirect)
		})
		s.manifest("g.test", "holdDid", s.holdDID())
		return s.blob(http.MethodHead, "g.test")
	}},
	{"the URL of a part", false, func(s *strangers) *http.Response {
		s.on("io.atcr.hold.getPartUploadUrl", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"url":"%s/part"}`, s.inside.url()) })
		s.profile("h.test", s.holdDID())
		return s.chunk("h.test")
	}},
	{"the URL of the first part", false, func(s *strangers) *http.Response {
		s.on("io.atcr.hold.initiateUpload", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"uploadId":"u","firstPart":{"url":"%s/part"}}`, s.inside.url())
		})
		s.profile("k.test", s.holdDID())
		return s.chunk("k.test")
	}},
	{"a redirect of a part", true, func(s *strangers) *http.Response {
		s.on("io.atcr.hold.initiateUpload", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"uploadId":"u"}`) })
		s.on("io.atcr.hold.getPartUploadUrl", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"url":"%s/part"}`, s.hold.URL) })
		s.on("part", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, s.inside.url(), http.StatusTemporaryRedirect)
		})
		s.profile("i.test", s.holdDID())
		return s.chunk("i.test")
	}},
	{"a redirect of a call with a service token", true, func(s *strangers) *http.Response {
		s.on("io.atcr.hold.initiateUpload", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, s.inside.url(), http.StatusTemporaryRedirect)
		})
		s.profile("j.test", s.holdDID())
		return s.upload("j.test")
	}},
	{"a redirect of the PLC directory", true, func(s *strangers) *http.Response {
		did := s.identity('j', "atproto_pds", "http://localhost")
		s.mu.Lock()
		s.documents[did] = s.inside.url() + "/" + did
		s.mu.Unlock()
		return s.get(alias(did), "/manifests/v1")
	}},
	{"a redirect of the handle resolver", true, func(s *strangers) *http.Response {
		s.mu.Lock()
		s.handles["elsewhere.test"] = s.inside.url()
		s.mu.Unlock()
		return s.login("elsewhere.test")
	}},
	{"a redirect of a DID document", true, func(s *strangers) *http.Response {
		s.on("did.json", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.inside.url(), http.StatusFound) })
		return s.get("did_web_127.0.0.1__3a"+fmt.Sprint(s.hold.Listener.Addr().(*net.TCPAddr).Port), "/manifests/v1")
	}},
	{"a redirect of a PDS", true, func(s *strangers) *http.Response {
		s.on("com.atproto.sync.getLatestCommit", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, s.inside.url(), http.StatusTemporaryRedirect)
		})
		return s.get(alias(s.identity('h', "atproto_pds", s.hold.URL)), "/manifests/v1")
	}},
	{"a redirect of a login", true, func(s *strangers) *http.Response {
		s.on("com.atproto.server.createSession", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, s.inside.url(), http.StatusPermanentRedirect)
		})
		return s.login(s.identity('i', "atproto_pds", s.hold.URL))
	}},
}
