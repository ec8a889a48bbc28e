package hold_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/hold/storage"
)

// image is the bytes of a manifest with a config and layers.
func image(config string, layers ...string) []byte {
	descriptor := func(b string) object {
		return object{"digest": digest.FromString(b), "size": len(b), "mediaType": "application/x"}
	}
	list := []object{}
	for _, l := range layers {
		list = append(list, descriptor(l))
	}
	b, _ := json.Marshal(object{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": descriptor(config), "layers": list})
	return b
}

// onPDS calls a procedure of the account's PDS.
func (w *world) onPDS(handle, method string, in any) reply {
	w.t.Helper()
	a := w.send(http.MethodPost, w.net.URL()+"/xrpc/"+method, w.session(handle), in)
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	return a
}

// publish makes a manifest public: its bytes, and a record that leaves out what they name.
func (w *world) publish(handle string, manifest []byte) digest.Digest {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.net.URL()+"/xrpc/com.atproto.repo.uploadBlob", bytes.NewReader(manifest))
	require.NoError(w.t, err)
	req.Header.Set("Authorization", "Bearer "+w.session(handle))
	req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	a := w.do(req)
	require.Equal(w.t, http.StatusOK, a.status, "%s", a.body)
	var out struct{ Blob json.RawMessage }
	a.json(&out)
	d := digest.FromBytes(manifest)
	w.record(handle, d, object{"manifestBlob": out.Blob})
	return d
}

func (w *world) record(handle string, d digest.Digest, extra object) {
	w.t.Helper()
	record := object{"$type": "io.atcr.manifest", "repository": "app", "digest": d, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"schemaVersion": 2, "createdAt": "2026-01-01T00:00:00.000Z", "holdDid": w.hold.DID()}
	for k, v := range extra {
		record[k] = v
	}
	w.onPDS(handle, "com.atproto.repo.putRecord", object{"repo": w.did(handle), "collection": "io.atcr.manifest", "rkey": d.Encoded(), "record": record})
}

func (w *world) unpublish(handle string, d digest.Digest) {
	w.t.Helper()
	w.onPDS(handle, "com.atproto.repo.deleteRecord", object{"repo": w.did(handle), "collection": "io.atcr.manifest", "rkey": d.Encoded()})
}

// tell notifies of a published manifest.
func (w *world) tell(handle string, manifest []byte) {
	w.t.Helper()
	var m object
	require.NoError(w.t, json.Unmarshal(manifest, &m))
	w.notify(handle, object{"repository": "app", "userDid": w.did(handle), "manifestDigest": digest.FromBytes(manifest), "operation": "push", "manifest": m})
}

// pushImage pushes an image whole.
func (w *world) pushImage(handle, config string, layers ...string) digest.Digest {
	w.t.Helper()
	for _, b := range append(layers, config) {
		w.push(handle, []byte(b))
	}
	m := image(config, layers...)
	d := w.publish(handle, m)
	w.tell(handle, m)
	return d
}

func (w *world) has(handle, content string) bool {
	w.t.Helper()
	a := w.getBlob(handle, handle, digest.FromString(content))
	if a.status == http.StatusTemporaryRedirect {
		a = w.send(http.MethodGet, a.header.Get("Location"), "", nil)
		require.Equal(w.t, content, string(a.body))
		return true
	}
	require.Equal(w.t, "BlobNotFound", a.errorName())
	return false
}

const grace = 240 * time.Hour

// open lets everybody in.
func open(c *hold.Config) { c.Public, c.AllowAllCrew = true, true }

// later moves the clock of a world past the grace period.
func later(w *world) {
	now := w.clocked()
	w.hold.Quiet() // the sweep at the start would take the blobs first
	now.add(grace + time.Hour)
}

func TestGarbageIsWhatNoManifestNamesForTheGracePeriod(t *testing.T) {
	onBothDrivers(t, open, func(t *testing.T, w *world) {
		now := w.clocked()
		w.join(bob)
		w.pushImage(alice, "config", "layer", "shared")
		gone := w.pushImage(alice, "config of the deleted", "layer of the deleted", "shared", "layer of two users")
		w.pushImage(bob, "config", "layer of two users")
		w.push(alice, []byte("orphan"))
		w.unpublish(alice, gone)

		report, err := w.hold.CollectGarbage(t.Context(), false)
		require.NoError(t, err)
		require.Equal(t, hold.Garbage{Users: 2, Manifests: 2, Gone: 1, LayerRecords: 3}, report, "blobs are younger than the grace period")
		require.EqualValues(t, 11, w.quotaOf(alice).TotalSize, "the quota does not wait")

		now.add(grace + time.Hour)
		w.push(alice, []byte("young orphan"))
		now.add(time.Hour)
		dry, err := w.hold.CollectGarbage(t.Context(), true)
		require.NoError(t, err)
		want := hold.Garbage{DryRun: true, Users: 2, Manifests: 2, Links: 4, Blobs: 3, Bytes: int64(len("config of the deletedlayer of the deletedorphan"))}
		require.Equal(t, want, dry)
		for _, b := range []string{"config", "layer", "shared", "orphan", "young orphan", "layer of two users", "layer of the deleted"} {
			require.True(t, w.has(alice, b), "a dry run changes nothing: %s", b)
		}
		report, err = w.hold.CollectGarbage(t.Context(), false)
		require.NoError(t, err)
		want.DryRun = false
		require.Equal(t, want, report, "a dry run says what a real one does")
		for _, b := range []string{"config", "layer", "shared", "young orphan"} {
			require.True(t, w.has(alice, b), b)
		}
		for _, b := range []string{"orphan", "layer of two users", "layer of the deleted", "config of the deleted"} {
			require.False(t, w.has(alice, b), b)
		}
		require.True(t, w.has(bob, "layer of two users"))
		require.True(t, w.has(bob, "config"))
		report, err = w.hold.CollectGarbage(t.Context(), false)
		require.NoError(t, err)
		require.Equal(t, hold.Garbage{Users: 2, Manifests: 2}, report)
	})
}

func TestOfAUserWhoseManifestsCannotAllBeReadNothingIsCollected(t *testing.T) {
	w, now := at(t, open)
	w.hold.Quiet()
	w.hold.LimitReading(time.Minute, 1<<20)
	w.join(bob)
	w.pushImage(alice, "config", "layer")
	gone := w.pushImage(alice, "config", "layer of the deleted")
	w.unpublish(alice, gone)
	w.push(alice, []byte("orphan of alice"))
	ofAlice := func(r *http.Request) bool {
		return strings.Contains(r.URL.RawQuery, strings.ReplaceAll(w.did(alice).String(), ":", "%3A"))
	}
	fail := func(method string) func(t *testing.T) {
		return func(*testing.T) {
			f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.HasSuffix(r.URL.Path, method) && ofAlice(r) {
					panic(http.ErrAbortHandler)
				}
				next.ServeHTTP(rw, r)
			}
			w.between.Store(&f)
		}
	}
	replace := func(method string, answer func() string) func(t *testing.T) {
		return func(*testing.T) {
			f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.HasSuffix(r.URL.Path, method) && ofAlice(r) {
					rw.Header().Set("Content-Type", "application/json")
					_, _ = rw.Write([]byte(answer()))
					return
				}
				next.ServeHTTP(rw, r)
			}
			w.between.Store(&f)
		}
	}
	refuse := func(name string) func(t *testing.T) {
		return func(*testing.T) {
			f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
				if !ofAlice(r) {
					next.ServeHTTP(rw, r)
					return
				}
				rw.Header().Set("Content-Type", "application/json")
				rw.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(rw, `{"error":%q,"message":"Not here."}`, name)
			}
			w.between.Store(&f)
		}
	}
	also := func(hinder func(t *testing.T)) func(t *testing.T) {
		return func(t *testing.T) {
			first := *w.between.Load()
			hinder(t)
			then := *w.between.Load()
			f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
				then(rw, r, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { first(rw, r, next) }))
			}
			w.between.Store(&f)
		}
	}
	odd := func(t *testing.T, d digest.Digest) {
		w.record(alice, d, nil)
		t.Cleanup(func() { w.unpublish(alice, d) })
	}
	for name, hinder := range map[string]func(t *testing.T){
		"the PDS is down":     fail(""),
		"the list breaks off": fail("listRecords"),
		"a manifest cannot be read": func(t *testing.T) { // one that no collection has read before: what was read is kept
			d := w.publish(alice, image("config", "layer", "layer"))
			t.Cleanup(func() { w.unpublish(alice, d) })
			fail("getBlob")(t)
		},
		"the PDS answers nonsense":   replace("getLatestCommit", func() string { return "no" }),
		"the account is deactivated": refuse("RepoDeactivated"),
		"the account is taken down":  refuse("RepoTakendown"),
		"the account has moved":      refuse("RepoNotFound"),
		"the list is cut short":      replace("listRecords", func() string { return `{"records":[]}` }),
		"nobody knows whether it is so": func(t *testing.T) {
			replace("listRecords", func() string { return `{"records":[]}` })(t)
			also(fail("getRecord"))(t)
		},
		"the list has no end": replace("listRecords", func() string { return `{"cursor":"x","records":[]}` }),
		"the list goes on and on": func(t *testing.T) {
			one := fmt.Sprintf(`{"uri":"at://%s/io.atcr.manifest/x","cid":"x","value":{"$type":"io.atcr.manifest","repository":"app","digest":%q,
				"mediaType":"application/x","schemaVersion":2,"createdAt":"2026-01-01T00:00:00.000Z","config":{"digest":%[2]q,"size":1},"padding":%[3]q}}`,
				w.did(alice), digest.FromString("x"), strings.Repeat("x", 100_000))
			page := strings.TrimSuffix(strings.Repeat(one+",", 40), ",")
			var calls atomic.Int64
			replace("listRecords", func() string { return fmt.Sprintf(`{"cursor":"%d","records":[%s]}`, calls.Add(1), page) })(t)
			t.Cleanup(func() { require.Equal(t, int64(1), calls.Load(), "a megabyte of records is enough") })
		},
		"a page takes for ever": func(t *testing.T) {
			w.hold.LimitReading(time.Second, 1<<20)
			t.Cleanup(func() { w.hold.LimitReading(time.Minute, 1<<20) })
			f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
				if ofAlice(r) && strings.HasSuffix(r.URL.Path, "listRecords") {
					<-r.Context().Done()
					return
				}
				next.ServeHTTP(rw, r)
			}
			w.between.Store(&f)
		},
		"the repository moves all the time": func(t *testing.T) {
			var calls atomic.Int64
			replace("getLatestCommit", func() string {
				return `{"cid":"x","rev":"` + time.UnixMicro(calls.Add(1)).String() + `"}`
			})(t)
		},
		"a manifest is of another digest": func(t *testing.T) {
			var out struct {
				Value struct{ ManifestBlob json.RawMessage }
			}
			w.send(http.MethodGet, w.net.URL()+"/xrpc/com.atproto.repo.getRecord?repo="+w.did(alice).String()+"&collection=io.atcr.manifest&rkey="+digest.FromBytes(image("config", "layer")).Encoded(), "", nil).json(&out)
			w.record(alice, digest.FromString("other"), object{"manifestBlob": out.Value.ManifestBlob})
			t.Cleanup(func() { w.unpublish(alice, digest.FromString("other")) })
		},
		"a record is no manifest": func(t *testing.T) { odd(t, "nonsense:x") },
		"a record names nothing":  func(t *testing.T) { odd(t, digest.FromString("other")) },
	} {
		t.Run(name, func(t *testing.T) {
			orphan := "orphan of bob: " + name
			w.push(bob, []byte(orphan))
			now.add(grace + time.Hour)
			hinder(t)
			report, err := w.hold.CollectGarbage(t.Context(), false)
			w.between.Store(nil)
			require.NoError(t, err)
			require.Equal(t, 1, report.Unreadable)
			require.Equal(t, 1, report.Blobs, "others' garbage goes")
			for _, b := range []string{"config", "layer", "layer of the deleted", "orphan of alice"} {
				require.True(t, w.has(alice, b), b)
			}
			require.Len(t, w.records("io.atcr.hold.layer"), 2)
			require.False(t, w.has(bob, orphan))
		})
	}
	for range 2 {
		report, err := w.hold.CollectGarbage(t.Context(), false)
		require.NoError(t, err)
		require.Equal(t, 1, report.Blobs, "when all can be read again, what waited goes: the orphan, and after the grace period the layer")
		now.add(grace + time.Hour)
	}
}

// Whoever pushes while the collector looks has old blobs that no manifest named, until now.
func TestAPushDuringACollectionKeepsItsBlobs(t *testing.T) {
	for name, push := range map[string]func(w *world){
		"reserved":           func(w *world) { w.reserve(alice, "next", []byte("reused")) },
		"pushed again":       func(w *world) { w.push(alice, []byte("reused")) },
		"published and told": func(w *world) { w.publish(alice, image("c", "reused")); w.tell(alice, image("c", "reused")) },
		"published by a registry that tells nothing": func(w *world) { w.publish(alice, image("c", "reused")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, open)
			w.pushImage(alice, "config", "layer")
			w.push(alice, []byte("reused"))
			later(w)
			var once atomic.Bool
			f := func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
				next.ServeHTTP(rw, r)
				if strings.HasSuffix(r.URL.Path, "listRecords") && once.CompareAndSwap(false, true) {
					push(w)
				}
			}
			w.between.Store(&f)
			report, err := w.hold.CollectGarbage(t.Context(), false)
			require.NoError(t, err)
			require.True(t, once.Load())
			require.Zero(t, report.Blobs)
			require.True(t, w.has(alice, "reused"))
		})
	}
}

func TestAManifestOfAStrangerGivesNothingAndKeepsNothing(t *testing.T) {
	w := newWorld(t, open)
	w.push(alice, []byte("orphan"))
	w.publish(mallory, image("c", "orphan"))
	later(w)
	require.False(t, w.has(mallory, "orphan"))
	report, err := w.hold.CollectGarbage(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, 1, report.Blobs)
	require.False(t, w.has(mallory, "orphan"))
}

// dying is a storage that cancels the run before its n-th removal.
type dying struct {
	storage.Driver
	left *int
	die  func()
}

func (d dying) Delete(ctx context.Context, dg digest.Digest) error {
	if *d.left--; *d.left < 0 {
		d.die()
		return errors.New("killed")
	}
	return d.Driver.Delete(ctx, dg)
}

func TestACollectionThatIsKilledAnywhereIsFinishedByTheNext(t *testing.T) {
	for n := range 4 {
		left := n
		w := newWorld(t, open)
		w.pushImage(alice, "config", "layer")
		gone := w.pushImage(alice, "config", "deleted 1", "deleted 2")
		w.unpublish(alice, gone)
		w.push(alice, []byte("orphan"))
		_, err := w.hold.CollectGarbage(t.Context(), false)
		require.NoError(t, err, "the manifest is missed")
		later(w)
		ctx, die := context.WithCancel(t.Context())
		w.hold.WrapDriver(func(d storage.Driver) storage.Driver { return dying{d, &left, die} })
		_, err = w.hold.CollectGarbage(ctx, false)
		die()
		w.restart(nil)
		require.Equal(t, n < 3, err != nil, "killed before removal %d of three", n+1)
		_, err = w.hold.CollectGarbage(t.Context(), false)
		require.NoError(t, err)
		for content, want := range map[string]bool{"config": true, "layer": true, "deleted 1": false, "deleted 2": false, "orphan": false} {
			require.Equal(t, want, w.has(alice, content), content)
			require.Equal(t, want, w.stored(content), content)
		}
		require.Len(t, w.records("io.atcr.hold.layer"), 1)
		require.EqualValues(t, 5, w.quotaOf(alice).TotalSize)
	}
}

func TestAPublicManifestThatNobodyToldOfIsFound(t *testing.T) {
	w, now := at(t, open)
	for _, b := range []string{"config", "layer"} {
		w.push(alice, []byte(b))
	}
	m := image("config", "layer")
	a := w.call(alice, "io.atcr.hold.reserveManifest", object{"manifestDigest": digest.FromBytes(m), "layers": []object{{"digest": digest.FromString("layer"), "size": 5}}})
	require.Equal(t, http.StatusOK, a.status)
	w.publish(alice, m)
	require.Zero(t, w.quotaOf(alice).TotalSize)
	now.add(2 * time.Hour)
	report, err := w.hold.CollectGarbage(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, 1, report.Repaired)
	require.EqualValues(t, 5, w.quotaOf(alice).TotalSize)
	require.Len(t, w.records("io.atcr.hold.layer"), 1)
}

func TestBlobsOfADeletedManifestStayWhileAnotherNamesThemThatNobodyToldOf(t *testing.T) {
	w, now := at(t, open)
	gone := w.pushImage(alice, "config", "layer", "own")
	w.publish(alice, image("config", "layer"))
	w.unpublish(alice, gone)
	w.call(alice, "io.atcr.hold.notifyManifest", object{"repository": "app", "userDid": w.did(alice), "manifestDigest": gone, "operation": "delete"})
	now.add(25 * time.Hour)

	down := func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
	w.between.Store(&down)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.True(t, w.stored("own"), "the PDS cannot be asked")
	w.between.Store(nil)
	require.NoError(t, w.hold.Sweep(t.Context()))
	require.False(t, w.stored("own"))
	require.True(t, w.has(alice, "layer"))
	require.True(t, w.has(alice, "config"))
}

func TestPartsThatBelongToNoUploadAreSwept(t *testing.T) {
	onBothDrivers(t, open, func(t *testing.T, w *world) {
		now := w.clocked()
		id, other := w.begin(alice), w.begin(alice)
		late := w.partURL(alice, id, 1)
		require.Equal(t, http.StatusOK, w.call(alice, "io.atcr.hold.abortUpload", object{"uploadId": id}).status)
		put := func() int {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, late, strings.NewReader("late"))
			require.NoError(t, err)
			return w.do(req).status
		}
		status := put()
		w.part(alice, other, 1, []byte("in progress"))
		now.add(25 * time.Hour)
		w.part(alice, other, 2, []byte("in progress"))
		var before, after []string
		w.hold.WrapDriver(func(d storage.Driver) storage.Driver {
			before = uploads(t, d)
			return d
		})
		if status == http.StatusOK { // S3 takes it: nobody asks the hold
			require.ElementsMatch(t, []string{id, other}, before)
		}
		require.NoError(t, w.hold.Sweep(t.Context()))
		w.hold.WrapDriver(func(d storage.Driver) storage.Driver {
			after = uploads(t, d)
			return d
		})
		require.Equal(t, []string{other}, after)
	})
}

func uploads(t *testing.T, d storage.Driver) (ids []string) {
	t.Helper()
	for id, err := range d.Uploads(t.Context()) {
		require.NoError(t, err)
		ids = append(ids, id)
	}
	return ids
}
