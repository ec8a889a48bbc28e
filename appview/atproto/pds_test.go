package atproto_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/session"
	"atcr.io/operator/appview/devnet"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/appview/store/seal"
)

const collection = "io.atcr.test"

type world struct {
	*devnet.Net
	alice  devnet.AccountInfo
	client *http.Client
	dir    *atproto.Directory
	pds    *atproto.PDS
	next   http.Handler
	fault  atomic.Pointer[http.HandlerFunc]
}

// start brings up a development network with alice logged in.
func start(t *testing.T) *world {
	t.Helper()
	w := &world{}
	var err error
	w.Net, err = devnet.Start(t.Context(), devnet.Config{Accounts: []devnet.Account{{Handle: "alice.test"}}, Wrap: func(next http.Handler) http.Handler {
		w.next = next
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if f := w.fault.Load(); f != nil {
				(*f)(rw, r)
				return
			}
			next.ServeHTTP(rw, r)
		})
	}})
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
	w.alice = w.Account("alice.test")
	db, err := store.Open(t.Context(), store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	key, _ := seal.Generate()
	w.client = diddoc.NewClient(diddoc.Policy{DevLoopback: true}, diddoc.Options{})
	w.dir = directory(w.URL(), w.client, nil)
	m := session.NewManager(session.Config{Store: db, Key: key, Directory: w.dir, Client: w.client, Logger: slog.New(slog.DiscardHandler)})
	who, err := w.dir.ResolveDID(t.Context(), w.alice.DID)
	require.NoError(t, err)
	_, err = m.Check(t.Context(), who, w.alice.AppPassword, "192.0.2.0/24")
	require.NoError(t, err)
	w.pds = atproto.NewPDS(w.dir, w.client, m)
	return w
}

func directory(url string, client *http.Client, now func() time.Time) *atproto.Directory {
	return atproto.NewDirectory(atproto.DirectoryConfig{PLCURL: url, HandleResolverURL: url, Operator: client, Guarded: client, Logger: slog.New(slog.DiscardHandler), Now: now})
}

func (w *world) breakWith(h http.HandlerFunc) { w.fault.Store(&h) }

func value(n int) map[string]any { return map[string]any{"$type": collection, "n": n} }

func TestABatchOfWritesIsReadBack(t *testing.T) {
	w := start(t)
	ctx, did := t.Context(), w.alice.DID
	blob, err := w.pds.UploadBlob(ctx, did, "application/vnd.oci.image.manifest.v1+json", []byte(`{"a": 1}`))
	require.NoError(t, err)
	require.EqualValues(t, 8, blob.Size)
	require.Equal(t, "application/vnd.oci.image.manifest.v1+json", blob.MimeType)

	withBlob := value(0)
	withBlob["blob"] = blob
	writes := []atproto.Write{{Action: atproto.Create, Collection: collection, RKey: "hello:latest", Value: withBlob}}
	for i := range 120 {
		writes = append(writes, atproto.Write{Action: atproto.Create, Collection: collection, RKey: fmt.Sprintf("k%03d", i), Value: value(i)})
	}
	commit, err := w.pds.ApplyWrites(ctx, did, writes, "")
	require.NoError(t, err)
	head, rev, err := w.pds.LatestCommit(ctx, did)
	require.NoError(t, err)
	require.Equal(t, commit, atproto.Commit{CID: head, Rev: rev})

	r, err := w.pds.GetRecord(ctx, did, collection, "hello:latest")
	require.NoError(t, err)
	var got struct{ Blob atproto.Blob }
	require.NoError(t, json.Unmarshal(r.Value, &got))
	require.Equal(t, blob, got.Blob)
	b, err := w.pds.GetBlob(ctx, did, blob.CID, 100)
	require.NoError(t, err)
	require.Equal(t, `{"a": 1}`, string(b))

	n := 0
	for _, err := range w.pds.AllRecords(ctx, did, collection, atproto.MaxCollection) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 121, n, "over more than one page")

	_, err = w.pds.PutRecord(ctx, did, collection, "k000", value(7))
	require.NoError(t, err)
	_, err = w.pds.ApplyWrites(ctx, did, []atproto.Write{{Action: atproto.Delete, Collection: collection, RKey: "k000"}}, "")
	require.NoError(t, err)
	_, err = w.pds.GetRecord(ctx, did, collection, "k000")
	require.ErrorIs(t, err, atproto.ErrRecordNotFound)
}

func TestWhatAPDSRefusesHasAName(t *testing.T) {
	w := start(t)
	ctx, did := t.Context(), w.alice.DID
	write := func(a atproto.Action, rkey string) []atproto.Write {
		return []atproto.Write{{Action: a, Collection: collection, RKey: rkey, Value: value(1)}}
	}
	old, err := w.pds.ApplyWrites(ctx, did, write(atproto.Create, "a"), "")
	require.NoError(t, err)
	_, err = w.pds.ApplyWrites(ctx, did, write(atproto.Create, "b"), old.CID)
	require.NoError(t, err)
	_, err = w.pds.ApplyWrites(ctx, did, write(atproto.Create, "c"), old.CID)
	require.ErrorIs(t, err, atproto.ErrInvalidSwap)
	_, err = w.pds.ApplyWrites(ctx, did, write(atproto.Create, "a"), "")
	require.Error(t, err, "there is no upsert")
	_, err = w.pds.ApplyWrites(ctx, did, nil, "")
	require.Error(t, err)
	_, err = w.pds.UploadBlob(ctx, did, "text/plain", bytes.Repeat([]byte("x"), 5<<20+1))
	require.ErrorIs(t, err, atproto.ErrBlobTooLarge)
	_, err = w.pds.GetBlob(ctx, did, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", 100)
	require.ErrorIs(t, err, atproto.ErrBlobNotFound)
	_, err = w.pds.GetBlob(ctx, did, "not a cid", 100)
	require.ErrorIs(t, err, atproto.ErrBlobNotFound)
	_, err = w.pds.ServiceToken(ctx, did, "did:web:127.0.0.1%3A8080")
	require.ErrorIs(t, err, atproto.ErrAudienceRefused)
	_, err = w.pds.UploadBlob(ctx, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "text/plain", nil)
	require.ErrorIs(t, err, atproto.ErrUnauthorized)

	answer := func(status int, body string, header ...string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				rw.Header().Set(header[i], header[i+1])
			}
			rw.WriteHeader(status)
			fmt.Fprint(rw, body)
		}
	}
	get := func() error { _, err := w.pds.GetRecord(ctx, did, collection, "a"); return err }
	w.breakWith(answer(429, `{}`, "Retry-After", "17"))
	var limit *atproto.TooManyRequests
	require.ErrorAs(t, get(), &limit)
	require.Equal(t, 17*time.Second, limit.RetryAfter)
	w.breakWith(answer(502, `s3cret`))
	require.ErrorIs(t, get(), atproto.ErrUnavailable)
	require.NotContains(t, get().Error(), "s3cret")
	w.breakWith(answer(400, `{"error":"Evil\nName","message":"s3cret"}`))
	require.ErrorIs(t, get(), atproto.ErrRefused)
	require.NotContains(t, get().Error(), "\n")
	require.NotContains(t, get().Error(), "s3cret")
	w.breakWith(answer(200, `<html>`))
	require.ErrorIs(t, get(), atproto.ErrUnavailable)
	w.breakWith(answer(200, strings.Repeat("x", 3<<20)))
	require.ErrorIs(t, get(), atproto.ErrUnavailable)
	w.breakWith(answer(200, "other bytes"))
	_, err = w.pds.GetBlob(ctx, did, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", 100)
	require.ErrorIs(t, err, atproto.ErrUnavailable, "bytes that do not hash to the CID are not that blob, nor does their PDS say that there is none")
}

func TestAServiceTokenIsSharedUntilItIsAboutToEnd(t *testing.T) {
	w := start(t)
	const hold = "did:web:localhost%3A8080"
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if _, err := w.pds.ServiceToken(t.Context(), w.alice.DID, hold); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, w.Count("getServiceAuth"))
	_, err := w.pds.ServiceToken(t.Context(), w.alice.DID, "did:web:other.example.com")
	require.NoError(t, err)
	w.pds.ForgetServiceToken(w.alice.DID, hold)
	_, err = w.pds.ServiceToken(t.Context(), w.alice.DID, hold)
	require.NoError(t, err)
	require.Equal(t, 3, w.Count("getServiceAuth"))
}

func TestOneCallerThatGivesUpDoesNotFailTheOthers(t *testing.T) {
	w := start(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.breakWith(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "getServiceAuth") {
			once.Do(func() { close(arrived) })
			<-release
		}
		w.next.ServeHTTP(rw, r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp, waited := make(chan error, 1), make(chan error, 1)
	go func() { _, err := w.pds.ServiceToken(ctx, w.alice.DID, "did:web:h.example.com"); gaveUp <- err }()
	<-arrived
	go func() { _, err := w.pds.ServiceToken(t.Context(), w.alice.DID, "did:web:h.example.com"); waited <- err }()
	cancel()
	require.ErrorIs(t, <-gaveUp, atproto.ErrUnavailable)
	close(release)
	require.NoError(t, <-waited)
}

func TestHandleAndDIDNameEachOther(t *testing.T) {
	w := start(t)
	ctx := t.Context()
	who, err := w.dir.Resolve(ctx, "ALICE.test")
	require.NoError(t, err)
	require.Equal(t, w.alice.DID, who.DID)
	require.Equal(t, "alice.test", who.Name())
	require.Equal(t, w.URL(), who.PDSEndpoint)
	require.NotNil(t, who.SigningKey)
	same, err := w.dir.ResolveDID(ctx, w.alice.DID)
	require.NoError(t, err)
	require.Same(t, who, same, "cached under both names")

	_, err = w.dir.Resolve(ctx, "nobody.test")
	require.ErrorIs(t, err, atproto.ErrUnknownIdentity)
	_, err = w.dir.ResolveDID(ctx, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	require.ErrorIs(t, err, atproto.ErrUnknownIdentity)
	_, err = w.dir.ResolveDID(ctx, "did:key:z6Mk")
	require.ErrorIs(t, err, atproto.ErrUnknownIdentity)
}

func TestAKnownIdentityOutlivesAnOutageAndAnUnknownOneIsAskedForAgain(t *testing.T) {
	w := start(t)
	var ahead atomic.Int64
	dir := directory(w.URL(), w.client, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	_, err := dir.Resolve(t.Context(), "alice.test")
	require.NoError(t, err)
	w.breakWith(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	ahead.Store(int64(time.Hour))
	who, err := dir.Resolve(t.Context(), "alice.test")
	require.NoError(t, err)
	require.Equal(t, w.alice.DID, who.DID)
	_, err = dir.Resolve(t.Context(), "bob.test")
	require.ErrorIs(t, err, atproto.ErrUnavailable)
	w.fault.Store(nil)
	_, err = dir.Resolve(t.Context(), "bob.test")
	require.ErrorIs(t, err, atproto.ErrUnknownIdentity, "an outage is not remembered as an answer")
}

func TestADIDWebWithAPortIsResolved(t *testing.T) {
	var did string
	n := atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		fmt.Fprintf(w, `{"id":%q,"service":[{"id":"#atcr_hold","type":"AtcrHoldService","serviceEndpoint":"http://localhost:1"}]}`, did)
	}))
	t.Cleanup(s.Close)
	raw := strings.Replace(s.URL, "http://127.0.0.1", "did:web:localhost", 1)
	did = diddoc.Canonical(raw)
	client := diddoc.NewClient(diddoc.Policy{DevLoopback: true}, diddoc.Options{})
	dir := directory("http://localhost:1", client, nil)
	for _, spelling := range []string{raw, did} {
		who, err := dir.ResolveDID(t.Context(), syntax.DID(spelling))
		require.NoError(t, err)
		require.Equal(t, did, string(who.DID))
		require.True(t, who.Handle.IsInvalidHandle())
		require.Equal(t, did, who.Name())
	}
	require.EqualValues(t, 1, n.Load(), "two spellings are one identity")

	did = "did:web:other.example.com"
	dir.Purge(syntax.AtIdentifier(raw))
	_, err := dir.ResolveDID(t.Context(), syntax.DID(raw))
	require.ErrorIs(t, err, atproto.ErrUnknownIdentity, "a document of another DID")

	strict := directory("http://localhost:1", diddoc.NewClient(diddoc.Policy{}, diddoc.Options{}), nil)
	_, err = strict.ResolveDID(t.Context(), syntax.DID(raw))
	require.ErrorIs(t, err, atproto.ErrUnknownIdentity, "loopback is not reached in production")
}

func TestAHandleThatItsDIDDoesNotNameIsUnknown(t *testing.T) {
	w := start(t)
	thief := http.NewServeMux()
	thief.HandleFunc("/xrpc/com.atproto.identity.resolveHandle", func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(rw, `{"did":%q}`, w.alice.DID)
	})
	s := httptest.NewServer(thief)
	t.Cleanup(s.Close)
	dir := atproto.NewDirectory(atproto.DirectoryConfig{PLCURL: w.URL(), HandleResolverURL: s.URL, Operator: w.client, Guarded: w.client, Logger: slog.New(slog.DiscardHandler)})
	_, err := dir.Resolve(t.Context(), "mallory.test")
	require.ErrorIs(t, err, atproto.ErrUnknownIdentity)
}

func TestAKnownIdentityIsForgottenWhenTheOutageLastsADayHoweverOftenItIsAskedFor(t *testing.T) {
	w := start(t)
	var ahead atomic.Int64
	dir := directory(w.URL(), w.client, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	_, err := dir.Resolve(t.Context(), "alice.test")
	require.NoError(t, err)
	w.breakWith(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	for _, after := range []time.Duration{8 * time.Hour, 16 * time.Hour, 24 * time.Hour} {
		ahead.Store(int64(after))
		_, err = dir.Resolve(t.Context(), "alice.test")
		require.NoError(t, err, after)
	}
	ahead.Store(int64(25 * time.Hour))
	_, err = dir.Resolve(t.Context(), "alice.test")
	require.ErrorIs(t, err, atproto.ErrUnavailable)
}

func TestAListWithoutEndIsGivenUp(t *testing.T) {
	w := start(t)
	did := w.alice.DID
	record := fmt.Sprintf(`{"uri":"at://%s/%s/x","cid":"x","value":{"text":%q}}`, did, collection, strings.Repeat("x", 1<<10))
	page := `"records":[` + strings.Repeat(record+",", 99) + record + `]}`
	var n atomic.Int64
	w.breakWith(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "listRecords") {
			w.next.ServeHTTP(rw, r)
			return
		}
		fmt.Fprintf(rw, `{"cursor":"%d",%s`, n.Add(1)%2, page) // two cursors in turn
	})
	var last error
	for _, err := range w.pds.AllRecords(t.Context(), did, collection, 1<<20) {
		last = err
		if n.Load() > 100 {
			break
		}
	}
	require.ErrorIs(t, last, atproto.ErrUnavailable)
}
