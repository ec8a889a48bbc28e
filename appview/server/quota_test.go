package server_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
)

// Bob's repository: alice is the captain and has no quota.
const bobs = "bob.test/app"

func pushAsBob(t *testing.T, w *servertest.World, blob string) digest.Digest {
	t.Helper()
	d := digest.FromString(blob)
	resp := w.Do(servertest.Bob, http.MethodPost, "/v2/"+bobs+"/blobs/uploads/?digest="+string(d), bobs, bytes.NewReader([]byte(blob)), nil)
	require.Equal(t, http.StatusCreated, resp.StatusCode)
	return d
}

// image pushes a config and a layer, and returns their manifest.
func image(t *testing.T, w *servertest.World, layer string) []byte {
	t.Helper()
	return manifestOf(pushAsBob(t, w, "{}"), pushAsBob(t, w, layer), 2, len(layer))
}

func usedByBob(t *testing.T, w *servertest.World) int64 {
	t.Helper()
	resp, err := http.Get(w.HoldURL + "/xrpc/io.atcr.hold.getQuota?" + url.Values{"userDid": {string(w.Account(servertest.Bob).DID)}}.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	var q struct{ TotalSize int64 }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&q))
	return q.TotalSize
}

func eventuallyUses(t *testing.T, w *servertest.World, bytes int64) {
	t.Helper()
	require.Eventually(t, func() bool { return usedByBob(t, w) == bytes }, 30*time.Second, 20*time.Millisecond)
}

func bobsRecords(t *testing.T, w *servertest.World, collection string) int {
	t.Helper()
	resp, err := http.Get(w.Devnet.URL() + "/xrpc/com.atproto.repo.listRecords?repo=" + string(w.Account(servertest.Bob).DID) + "&collection=" + collection)
	require.NoError(t, err)
	defer resp.Body.Close()
	var out struct{ Records []json.RawMessage }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
	return len(out.Records)
}

func TestAManifestThatDoesNotFitTheQuotaIsNeverPublic(t *testing.T) {
	w := servertest.Start(t, servertest.Options{HoldEnv: map[string]string{names.HoldQuotaTiers: "swabbie=10B"}})
	first := image(t, w, "sixsix")
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Bob, bobs, "v1", first).StatusCode)
	eventuallyUses(t, w, 6)

	second := image(t, w, "fives")
	refuses(t, putManifest(w, servertest.Bob, bobs, "v2", second), 403, "DENIED", "you use 6 B of 10 B, and this needs 5 B more. Delete images")
	require.Equal(t, 1, bobsRecords(t, w, records.CollectionManifest))
	require.Equal(t, 1, bobsRecords(t, w, records.CollectionTag))
	require.Equal(t, http.StatusNotFound, w.Do(servertest.Bob, http.MethodGet, "/v2/"+bobs+"/manifests/v2", bobs, nil, nil).StatusCode)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Bob, bobs, "other-tag", first).StatusCode, "what is there already fits")

	del := w.Do(servertest.Bob, http.MethodDelete, "/v2/"+bobs+"/manifests/"+string(digest.FromBytes(first)), bobs, nil, nil)
	require.Equal(t, http.StatusAccepted, del.StatusCode)
	eventuallyUses(t, w, 0)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Bob, bobs, "v2", second).StatusCode)
	eventuallyUses(t, w, 5)
}

func TestOfManyPushesAtOnceOnlyWhatFitsIsPublic(t *testing.T) {
	w := servertest.Start(t, servertest.Options{HoldEnv: map[string]string{names.HoldQuotaTiers: "swabbie=13B"}})
	var bodies [6][]byte
	for i := range bodies {
		bodies[i] = image(t, w, fmt.Sprintf("layer%d", i))
	}
	var taken atomic.Int32
	var wg sync.WaitGroup
	token := w.Token(servertest.Bob, "repository:"+bobs+":pull,push")
	for i, body := range bodies {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, fmt.Sprintf("%s/v2/%s/manifests/v%d", w.URL, bobs, i), bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			switch resp.StatusCode {
			case http.StatusCreated:
				taken.Add(1)
			case http.StatusForbidden:
			default:
				t.Errorf("answered %s", resp.Status)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 2, taken.Load())
	require.Equal(t, 2, bobsRecords(t, w, records.CollectionManifest))
	eventuallyUses(t, w, 12)
}

func TestAHoldThatWasDownLearnsOfPushesAndDeletionsLater(t *testing.T) {
	var deaf atomic.Bool
	w := servertest.Start(t, servertest.Options{WrapHold: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if deaf.Load() && r.URL.Path == "/xrpc/io.atcr.hold.notifyManifest" {
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	}})
	deaf.Store(true)
	kept, gone := image(t, w, "kept layer"), image(t, w, "layer that goes")
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Bob, bobs, "kept", kept).StatusCode)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Bob, bobs, "gone", gone).StatusCode)
	require.Zero(t, usedByBob(t, w))
	deaf.Store(false)
	eventuallyUses(t, w, 25)

	deaf.Store(true)
	del := w.Do(servertest.Bob, http.MethodDelete, "/v2/"+bobs+"/manifests/"+string(digest.FromBytes(gone)), bobs, nil, nil)
	require.Equal(t, http.StatusAccepted, del.StatusCode, "a hold that is down keeps nobody from deleting")
	require.EqualValues(t, 25, usedByBob(t, w))
	deaf.Store(false)
	eventuallyUses(t, w, 10)
	resp, err := http.Get(w.HoldURL + "/xrpc/com.atproto.repo.listRecords?repo=" + url.QueryEscape(string(w.HoldDID())) + "&collection=io.atcr.hold.layer")
	require.NoError(t, err)
	defer resp.Body.Close()
	var out struct {
		Records []struct{ Value struct{ Manifest string } }
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&out))
	require.Len(t, out.Records, 1)
	require.Equal(t, records.ManifestURI(w.Account(servertest.Bob).DID, digest.FromBytes(kept)), out.Records[0].Value.Manifest)
}

// A server that is killed right after its answer has the notification on disk.
func TestANotificationOutlivesTheServerThatOwesIt(t *testing.T) {
	var deaf atomic.Bool
	w := servertest.Start(t, servertest.Options{NoAppView: true, WrapHold: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if deaf.Load() && r.URL.Path == "/xrpc/io.atcr.hold.notifyManifest" {
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	}})
	deaf.Store(true)
	p := launch(t, w)
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Bob, bobs, "v1", image(t, w, "layer")).StatusCode)
	p.kill(t)
	require.Zero(t, usedByBob(t, w))
	deaf.Store(false)
	launch(t, w)
	eventuallyUses(t, w, 5)
}

// The server dies after the PDS has deleted the record and before anybody knows. Whoever runs next finds out.
func TestADeletionOutlivesTheServerThatAskedForIt(t *testing.T) {
	var armed atomic.Bool
	var killed *process
	w := servertest.Start(t, servertest.Options{NoAppView: true, WrapPDS: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r)
			if strings.HasSuffix(r.URL.Path, "applyWrites") && armed.CompareAndSwap(true, false) {
				if err := killed.cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
				killed.wait()
			}
		})
	}})
	killed = launch(t, w)
	m := image(t, w, "layer")
	require.Equal(t, http.StatusCreated, putManifest(w, servertest.Bob, bobs, "v1", m).StatusCode)
	eventuallyUses(t, w, 5)
	path := "/v2/" + bobs + "/manifests/" + string(digest.FromBytes(m))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, w.URL+path, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+w.Token(servertest.Bob, "repository:"+bobs+":delete"))
	armed.Store(true)
	_, err = http.DefaultClient.Do(req)
	require.Error(t, err, "no answer came")
	require.Zero(t, bobsRecords(t, w, records.CollectionManifest))

	env := map[string]string{}
	for _, v := range w.Environ() {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	db, err := sql.Open("sqlite", env[names.UIDatabasePath])
	require.NoError(t, err)
	res, err := db.ExecContext(t.Context(), `UPDATE outbox SET due_at = 0 WHERE record <> ''`) // as if two minutes had passed
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `DELETE FROM leases`)
	require.NoError(t, err)
	waiting, err := res.RowsAffected()
	require.NoError(t, err)
	require.EqualValues(t, 1, waiting)
	require.NoError(t, db.Close())
	launch(t, w)
	require.Equal(t, http.StatusNotFound, w.Do(servertest.Bob, http.MethodDelete, path, bobs, nil, nil).StatusCode, "the client tries again")
	eventuallyUses(t, w, 0)
}
