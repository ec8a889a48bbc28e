package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/server/servertest"
	"atcr.io/operator/appview/store/storetest"
)

// clock is an AppView's clock that a test moves.
type clock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

// movingHandle is a world in which alice.test has pushed v1, over one of the engines.
type movingHandle struct {
	*servertest.World
	t     *testing.T
	clock *clock
	old   digest.Digest // alice's image
	layer digest.Digest
}

func withMovingHandle(t *testing.T, test func(m *movingHandle)) {
	storetest.Each(t, func(t *testing.T, e storetest.Engine) {
		m := &movingHandle{t: t, clock: &clock{}}
		m.World = servertest.Start(t, servertest.Options{AppViewEnv: e.Env(), Now: m.clock.now})
		config, layer := push(t, m.World, app, []byte("{}")), push(t, m.World, app, []byte("layer"))
		body := manifestOf(config, layer, 2, 5)
		m.old, m.layer = digest.FromBytes(body), layer
		require.Equal(t, http.StatusCreated, putManifest(m.World, servertest.Alice, app, "v1", body).StatusCode)
		test(m)
	})
}

// move gives alice's handle to bob, and lets the registry forget where it resolved to.
func (m *movingHandle) move() {
	m.t.Helper()
	require.NoError(m.t, m.Devnet.Rename(m.t.Context(), m.Account(servertest.Bob).DID, servertest.Alice))
	m.clock.advance(6 * time.Minute) // identities are remembered for five
}

func (m *movingHandle) reader() client {
	return client{m.t, m.Token("", "repository:"+app+":pull")}
}

func (m *movingHandle) get(path string) *http.Response {
	m.t.Helper()
	return m.reader().do(m.World, http.MethodGet, "/v2/"+app+path, nil)
}

func (m *movingHandle) held() {
	m.t.Helper()
	for _, path := range []string{"/manifests/v1", "/tags/list"} {
		refuses(m.t, m.get(path), 404, "MANIFEST_UNKNOWN", "has moved to another account")
	}
	require.Equal(m.t, http.StatusNotFound, m.reader().do(m.World, http.MethodHead, "/v2/"+app+"/manifests/v1", nil).StatusCode)
}

// byDigest checks that who pinned alice's image goes on pulling it.
func (m *movingHandle) byDigest() {
	m.t.Helper()
	require.Equal(m.t, string(m.old), m.reader().digestOf(m.World, string(m.old)))
	require.Equal(m.t, http.StatusTemporaryRedirect, m.get("/blobs/"+string(m.layer)).StatusCode)
	require.Equal(m.t, http.StatusOK, m.reader().do(m.World, http.MethodHead, "/v2/"+app+"/blobs/"+string(m.layer), nil).StatusCode)
}

// pushAsNewOwner pushes with the account that has the handle now.
func (m *movingHandle) pushAsNewOwner() digest.Digest {
	m.t.Helper()
	config, layer := push(m.t, m.World, app, []byte(`{"of":"bob"}`)), push(m.t, m.World, app, []byte("bob's"))
	body := manifestOf(config, layer, 12, 5)
	require.Equal(m.t, http.StatusCreated, putManifest(m.World, servertest.Alice, app, "v1", body).StatusCode)
	return digest.FromBytes(body)
}

func TestAHandleThatMovesNamesNothingUntilItsNewOwnerPushes(t *testing.T) {
	withMovingHandle(t, func(m *movingHandle) {
		alice, bob := m.Account(servertest.Alice).DID, m.Account(servertest.Bob).DID
		m.move()
		m.held()
		a := read(m.t, m.get("/manifests/v1"))
		for _, did := range []string{string(alice), string(bob)} {
			require.Contains(t, a.message, strings.ReplaceAll(did, ":", "_"), "both accounts are named as they can be pulled from")
		}
		m.byDigest()
		// What the new owner attaches to the former one's image, through another name, is not shown as the former's.
		his := strings.ReplaceAll(string(bob), ":", "_") + "/app"
		config := push(m.t, m.World, his, []byte("{}"))
		signature := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/x.signature",
			"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],
			"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d}}`, config, m.old, len(manifestOf(config, m.layer, 2, 5)))
		require.Equal(m.t, http.StatusCreated, putManifest(m.World, servertest.Alice, his, string(digest.FromBytes(signature)), signature).StatusCode)
		resp := m.get("/referrers/" + string(m.old))
		require.Equal(m.t, http.StatusOK, resp.StatusCode)
		body, err := io.ReadAll(resp.Body)
		require.NoError(m.t, err)
		require.NotContains(m.t, string(body), digest.FromBytes(signature))
		m.held()

		// Under the DIDs nothing has changed.
		former := strings.ReplaceAll(string(alice), ":", "_") + "/app"
		resp = m.Do("", http.MethodGet, "/v2/"+former+"/manifests/v1", former, nil, nil)
		require.Equal(m.t, http.StatusOK, resp.StatusCode)

		// The new owner is not told that the former one's blobs are there: his image would lack them.
		resp = m.Do(servertest.Alice, http.MethodHead, "/v2/"+app+"/blobs/"+string(m.layer), app, nil, nil)
		require.Equal(m.t, http.StatusNotFound, resp.StatusCode)
		other := m.secondReplica()
		theirs := m.pushAsNewOwner()
		require.Equal(m.t, string(theirs), m.reader().digestOf(m.World, "v1"), "his push ends it")
		if other != nil {
			require.Equal(m.t, string(theirs), m.reader().digestOf(other, "v1"), "at once, at every replica")
		}
		m.byDigest()
	})
}

// secondReplica is another AppView where the engine allows one.
func (m *movingHandle) secondReplica() *servertest.World {
	if !strings.Contains(strings.Join(m.Environ(), "\n"), "postgres://") {
		return nil
	}
	other := m.Replica()
	refuses(m.t, m.reader().do(other, http.MethodGet, "/v2/"+app+"/manifests/v1", nil), 404, "MANIFEST_UNKNOWN", "has moved")
	return other
}

func TestAHandleThatMovedNamesItsNewOwnersImagesAfterAWeek(t *testing.T) {
	withMovingHandle(t, func(m *movingHandle) {
		m.move()
		m.held()
		m.clock.advance(7*24*time.Hour - 2*time.Minute)
		m.held()
		m.byDigest()
		m.clock.advance(3 * time.Minute)
		refuses(m.t, m.get("/manifests/v1"), 404, "MANIFEST_UNKNOWN", "There is no repository")
		m.byDigest()
	})
}

func TestAHandleThatComesBackNamesWhatItNamed(t *testing.T) {
	withMovingHandle(t, func(m *movingHandle) {
		alice := m.Account(servertest.Alice).DID
		m.move()
		m.held()
		require.NoError(m.t, m.Devnet.Rename(m.t.Context(), alice, servertest.Alice))
		m.clock.advance(6 * time.Minute)
		require.Equal(m.t, string(m.old), m.reader().digestOf(m.World, "v1"))
	})
}

// After the new owner has pushed, the former one is the stranger.
func TestAHandleThatComesBackAfterAPushOfAnotherIsHeldAgain(t *testing.T) {
	withMovingHandle(t, func(m *movingHandle) {
		alice := m.Account(servertest.Alice).DID
		m.move()
		m.held()
		theirs := m.pushAsNewOwner()
		require.NoError(m.t, m.Devnet.Rename(m.t.Context(), alice, servertest.Alice))
		m.clock.advance(6 * time.Minute)
		m.held()
		require.Equal(m.t, string(theirs), m.reader().digestOf(m.World, string(theirs)))
	})
}

func TestAHandleUnderWhichNothingWasServedMayMove(t *testing.T) {
	withMovingHandle(t, func(m *movingHandle) {
		const name = "bob.test/app"
		get := func() *http.Response {
			return client{m.t, m.Token("", "repository:"+name+":pull")}.do(m.World, http.MethodGet, "/v2/"+name+"/manifests/v1", nil)
		}
		refuses(m.t, get(), 404, "MANIFEST_UNKNOWN", "There is no repository")
		require.NoError(m.t, m.Devnet.Rename(m.t.Context(), m.Account(servertest.Alice).DID, servertest.Bob))
		m.clock.advance(6 * time.Minute)
		require.Equal(m.t, http.StatusOK, get().StatusCode)
	})
}
