package upload_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/oci/upload"
	"atcr.io/operator/appview/store"
)

const alice = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")

// hold keeps parts as a hold does, and fails when it is told to.
type hold struct {
	*httptest.Server
	mu        sync.Mutex
	initiated string // JSON members of the answer to initiateUpload besides uploadId
	parts     map[string][]byte
	lengths   []int64 // Content-Length of each part received
	failures  int     // parts to refuse with 503
	unwilling int     // completions to refuse with 503
	differs   bool    // what came does not hash to the digest, as the hold finds
	asked     int     // for the place of a part
	completed []byte
	whole     []byte
	begun     int
	aborted   int
	operated  bool // the operator configures it
}

func (h *hold) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body) // a part may take its time
	h.mu.Lock()
	defer h.mu.Unlock()
	switch r.URL.Path {
	case "/xrpc/io.atcr.hold.initiateUpload":
		h.begun++
		fmt.Fprintf(w, `{"uploadId":"u1"%s}`, strings.ReplaceAll(h.initiated, "$HOLD", h.URL))
	case "/xrpc/io.atcr.hold.getPartUploadUrl":
		var in struct{ PartNumber int }
		_ = json.Unmarshal(body, &in)
		h.asked++
		fmt.Fprintf(w, `{"url":"%s/part/%d","method":"PUT"}`, h.URL, in.PartNumber)
	case "/xrpc/io.atcr.hold.completeUpload":
		var in struct{ Parts []struct{ ETag string } }
		_ = json.Unmarshal(body, &in)
		if h.unwilling > 0 {
			h.unwilling--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if h.differs {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"InvalidDigest"}`)
			return
		}
		h.completed = []byte{}
		for _, p := range in.Parts {
			h.completed = append(h.completed, h.parts[p.ETag]...)
		}
		fmt.Fprint(w, `{"status":"completed"}`)
	case "/xrpc/io.atcr.hold.putBlob":
		if h.unwilling > 0 {
			h.unwilling--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		d := r.URL.Query().Get("digest")
		if err != nil || digest.FromBytes(body) != digest.Digest(d) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"InvalidDigest"}`)
			return
		}
		h.whole = body
		fmt.Fprintf(w, `{"status":"completed","digest":%q}`, d)
	case "/xrpc/io.atcr.hold.abortUpload":
		h.aborted++
		fmt.Fprint(w, `{"status":"aborted"}`)
	case "/xrpc/io.atcr.hold.requestCrew":
		fmt.Fprint(w, `{"status":"created"}`)
	default:
		if err != nil {
			return // the connection broke: no part
		}
		if h.failures > 0 {
			h.failures--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.lengths = append(h.lengths, r.ContentLength)
		h.parts[r.URL.Path] = body
		w.Header().Set("ETag", r.URL.Path)
	}
}

func anywhere(*url.URL) error { return nil }

type directory string

func (d directory) HoldEndpoint(context.Context, syntax.DID) (string, error) { return string(d), nil }

type tokens struct{}

func (tokens) ServiceToken(context.Context, syntax.DID, syntax.DID) (string, error) { return "t", nil }

// start begins an upload to a hold that a user chose.
func start(t *testing.T, initiated string) (*hold, *upload.Uploader, *upload.Session) {
	return startAt(t, initiated, false)
}

// startAt begins an upload to a hold that the operator configured, or not.
func startAt(t *testing.T, initiated string, operated bool) (*hold, *upload.Uploader, *upload.Session) {
	t.Helper()
	h := &hold{initiated: initiated, operated: operated, parts: map[string][]byte{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	db, err := store.Open(t.Context(), store.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	client := holdclient.New(holdclient.Config{Directory: directory(h.URL), Tokens: tokens{}, Guarded: http.DefaultClient, Trusted: http.DefaultClient, HandOut: anywhere,
		Configured: func(string) (names.Hold, bool) { return names.Hold{}, h.operated }})
	u := upload.New(client, &upload.Sessions{Store: db, Now: time.Now}, slog.New(slog.DiscardHandler))
	at, err := client.Resolve(t.Context(), "did:web:hold.example.com")
	require.NoError(t, err)
	s, err := u.Start(t.Context(), at, alice, "app", digest.SHA256, "")
	require.NoError(t, err)
	return h, u, s
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 7)
	}
	return b
}

func TestAForeignHoldGetsPartsOfEightMebibytes(t *testing.T) {
	h, u, s := start(t, "")
	blob := bytesOf(20 << 20)
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob), -1))
	require.Equal(t, []int64{8 << 20, 8 << 20, 4 << 20}, h.lengths)
	require.EqualValues(t, 5<<20, s.Upload.MinPart)
	require.ErrorIs(t, u.Append(t.Context(), s, bytes.NewReader(blob[:10]), 10), upload.ErrShortPart, "S3 takes no part after a short one")
	require.NoError(t, u.Finish(t.Context(), s, digest.FromBytes(blob)))
	require.True(t, bytes.Equal(blob, h.completed))
}

func TestAHoldOfTheOperatorThatVerifiesDigestsIsTheOneToHashAWholeBlob(t *testing.T) {
	const verifies = `,"streaming":true,"verifies":true`
	blob := bytesOf(1000)
	h, u, s := startAt(t, verifies, true)
	h.differs = true
	require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob), 1000))
	require.ErrorIs(t, u.Finish(t.Context(), s, digest.FromBytes(blob)), upload.ErrDigest, "it says no, though the digest is right")
	_, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.ErrorIs(t, err, upload.ErrUnknown)

	h, u, s = startAt(t, verifies, true)
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob[:500]), 500))
	require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob[500:]), 500))
	require.ErrorIs(t, u.Finish(t.Context(), s, digest.FromString("other")), upload.ErrDigest, "one that came in chunks is hashed here too")
	require.Nil(t, h.completed)

	h, u, s = start(t, verifies)
	require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob), 1000))
	require.ErrorIs(t, u.Finish(t.Context(), s, digest.FromString("other")), upload.ErrDigest, "and all that goes to a hold of somebody else, whatever that promises")
	require.Nil(t, h.completed)

	h, u, s = startAt(t, `,"streaming":true`, true)
	require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob), 1000))
	require.ErrorIs(t, u.Finish(t.Context(), s, digest.FromString("other")), upload.ErrDigest, "or to one that does not promise it")
	require.Nil(t, h.completed)
}

func TestOnlyAHoldOfTheOperatorIsBelievedForADigestOfAnotherAlgorithm(t *testing.T) {
	const verifies = `,"streaming":true,"verifies":true`
	blob := bytesOf(1000)
	for operated, want := range map[bool]error{true: nil, false: upload.ErrAlgorithm} {
		h, u, s := startAt(t, verifies, operated)
		require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob), 1000))
		require.ErrorIs(t, u.Finish(t.Context(), s, digest.SHA512.FromBytes(blob)), want)
		require.Equal(t, operated, h.completed != nil)
	}
}

func TestAHoldThatTellsWhereTheFirstPartGoesIsNotAskedForIt(t *testing.T) {
	h, u, s := start(t, `,"streaming":true,"firstPart":{"url":"$HOLD/first","method":"PUT"}`)
	blob := bytesOf(1000)
	h.failures = 1
	require.Error(t, u.Append(t.Context(), s, bytes.NewReader(blob[:400]), 400))
	require.Zero(t, h.asked)
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob[:400]), 400), "whatever came of the first part, the next has a number of its own")
	require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob[400:]), 600))
	require.Equal(t, 2, h.asked)
	require.NoError(t, u.Finish(t.Context(), s, digest.FromBytes(blob)))
	require.Equal(t, blob, h.completed)

	h, u, s = start(t, `,"streaming":true,"firstPart":{"url":"$HOLD/first","method":"PUT"}`)
	require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob), 1000))
	require.NoError(t, u.Finish(t.Context(), s, digest.FromBytes(blob)))
	require.Zero(t, h.asked)
	require.Equal(t, blob, h.parts["/first"])
}

const whole = `,"streaming":true,"verifies":true,"wholeBlobs":true`

// next begins another upload to the same hold.
func next(t *testing.T, u *upload.Uploader, before *upload.Session) *upload.Session {
	t.Helper()
	at, err := u.Holds.Resolve(t.Context(), before.Hold)
	require.NoError(t, err)
	s, err := u.Start(t.Context(), at, alice, "app", digest.SHA256, "")
	require.NoError(t, err)
	return s
}

func TestAHoldThatTakesWholeBlobsGetsTheNextInOneRequest(t *testing.T) {
	blob := bytesOf(1000)
	d := digest.FromBytes(blob)
	h, u, first := startAt(t, whole, true)
	require.False(t, u.TakesWhole(first), "it is open at the hold, which has just said so")
	s := next(t, u, first)
	require.Equal(t, 1, h.begun)
	require.True(t, u.TakesWhole(s))
	require.NoError(t, u.PutWhole(t.Context(), s, bytes.NewReader(blob), 1000, d))
	require.Equal(t, blob, h.whole)
	require.Empty(t, h.lengths, "no part")
	_, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.ErrorIs(t, err, upload.ErrUnknown)
	at, err := u.Sessions.Ended(t.Context(), alice, "app", s.ID, d)
	require.NoError(t, err)
	require.Equal(t, s.Hold, at)

	s = next(t, u, first)
	require.ErrorIs(t, u.PutWhole(t.Context(), s, bytes.NewReader(blob), 1000, digest.FromString("other")), upload.ErrDigest)
	_, err = u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.ErrorIs(t, err, upload.ErrUnknown)
	require.Equal(t, 1, h.begun)
	require.Zero(t, h.aborted, "the hold knows of none")

	for name, of := range map[string]struct {
		initiated string
		operated  bool
	}{"a hold that does not say that it hashes": {`,"streaming":true,"wholeBlobs":true`, true}, "one that no operator configured": {whole, false},
		"one that only takes those of an upload whole, as a release before did": {`,"streaming":true,"verifies":true,"whole":true`, true}} {
		h, u, s := startAt(t, of.initiated, of.operated)
		require.False(t, u.TakesWhole(next(t, u, s)), "is not left to it: %s", name)
		require.Equal(t, 2, h.begun)
	}
}

func TestABlobThatDidNotGoWholeGoesAsAnUploadWhenItsClientRepeatsIt(t *testing.T) {
	blob := bytesOf(1000)
	d := digest.FromBytes(blob)
	for name, fails := range map[string]func(*hold, *upload.Uploader, *upload.Session){
		"the hold fails": func(h *hold, u *upload.Uploader, s *upload.Session) {
			h.unwilling = 1
			kind, _ := holdclient.KindOf(u.PutWhole(t.Context(), s, bytes.NewReader(blob), 1000, d))
			require.Equal(t, holdclient.Unavailable, kind)
		},
		"the client breaks off": func(_ *hold, u *upload.Uploader, s *upload.Session) {
			var broken *upload.BodyError
			require.ErrorAs(t, u.PutWhole(t.Context(), s, iotest.ErrReader(errors.New("the client is gone")), 1000, d), &broken)
		},
	} {
		h, u, first := startAt(t, whole, true)
		s := next(t, u, first)
		fails(h, u, s)
		s, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
		require.NoError(t, err, name)
		require.False(t, u.TakesWhole(s), name)
		require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob), 1000), name)
		require.NoError(t, u.Finish(t.Context(), s, d), name)
		require.Equal(t, blob, h.completed, name)
		require.Equal(t, 2, h.begun, name)
		require.True(t, u.TakesWhole(next(t, u, first)), name)
	}
}

func TestAHoldThatTheOperatorDropsIsBelievedNoMore(t *testing.T) {
	blob, other := bytesOf(1000), digest.FromString("other")
	h, u, first := startAt(t, whole, true)
	for range 2 { // of which each renews it
		s := next(t, u, first)
		require.True(t, u.TakesWhole(s))
		require.NoError(t, u.PutWhole(t.Context(), s, bytes.NewReader(blob), 1000, digest.FromBytes(blob)))
	}
	s := next(t, u, first)
	h.operated = false
	require.False(t, u.TakesWhole(s))
	require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob), 1000))
	require.ErrorIs(t, u.Finish(t.Context(), s, other), upload.ErrDigest)
	require.NoError(t, u.AppendLast(t.Context(), first, bytes.NewReader(blob), 1000))
	require.ErrorIs(t, u.Finish(t.Context(), first, other), upload.ErrDigest, "nor of what was begun before")
	require.Nil(t, h.completed)

	h.operated = true
	s = next(t, u, first)
	require.True(t, u.TakesWhole(s))
	h.operated, h.whole = false, nil
	kind, _ := holdclient.KindOf(u.PutWhole(t.Context(), s, bytes.NewReader(blob), 1000, digest.FromBytes(blob)))
	require.Equal(t, holdclient.Unavailable, kind, "the client tries again")
	require.Nil(t, h.whole, "nothing was sent")
}

func TestAnUploadThatComesInChunksIsOpenedAtTheHoldByTheFirst(t *testing.T) {
	blob := bytesOf(1000)
	h, u, first := startAt(t, whole, true)
	s := next(t, u, first)
	rival, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.NoError(t, err)
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob[:500]), 500))
	require.Equal(t, 2, h.begun)
	require.ErrorIs(t, u.Append(t.Context(), rival, bytes.NewReader(blob[:500]), 500), upload.ErrConflict)
	require.Equal(t, 1, h.aborted, "what the rival has opened")
	s, err = u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.NoError(t, err)
	require.False(t, u.TakesWhole(s), "the last bytes are not all")
	require.NoError(t, u.AppendLast(t.Context(), s, bytes.NewReader(blob[500:]), 500))
	require.NoError(t, u.Finish(t.Context(), s, digest.FromBytes(blob)))
	require.Equal(t, blob, h.completed)

	s = next(t, u, first)
	require.NoError(t, u.Finish(t.Context(), s, digest.FromString("")), "of which nothing comes")
	require.Empty(t, h.completed)
	require.NoError(t, u.Cancel(t.Context(), next(t, u, first)))
	require.Equal(t, 1, h.aborted, "there is nothing to abort")
}

func TestOurHoldsGetChunksOfAnySize(t *testing.T) {
	h, u, s := start(t, `,"partSize":1000`)
	blob := bytesOf(5555)
	for i := 0; i < len(blob); i += 1111 {
		require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob[i:i+1111]), 1111))
		again, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
		require.NoError(t, err)
		s = again // each chunk may meet another replica
	}
	require.Len(t, h.lengths, 10)
	require.NoError(t, u.Finish(t.Context(), s, digest.FromBytes(blob)))
	require.True(t, bytes.Equal(blob, h.completed))
	_, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.ErrorIs(t, err, upload.ErrUnknown)
}

func TestAStreamingHoldGetsOnePartOfUnknownLength(t *testing.T) {
	h, u, s := start(t, `,"partSize":8388608,"streaming":true`)
	blob := bytesOf(3 << 20)
	require.NoError(t, u.Append(t.Context(), s, iotest.OneByteReader(bytes.NewReader(blob[:100])), -1))
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob[100:]), int64(len(blob)-100)))
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(nil), -1), "an empty body is no part")
	require.Equal(t, []int64{-1, int64(len(blob) - 100)}, h.lengths)
	require.NoError(t, u.Finish(t.Context(), s, digest.FromBytes(blob)))
	require.True(t, bytes.Equal(blob, h.completed))
}

func TestAPartIsSentAgainWhenTheHoldFails(t *testing.T) {
	h, u, s := start(t, `,"partSize":1000`)
	h.failures = 2
	blob := bytesOf(2500)
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob), -1))
	require.NoError(t, u.Finish(t.Context(), s, digest.FromBytes(blob)))
	require.True(t, bytes.Equal(blob, h.completed))
}

func TestABrokenBodyLeavesTheUploadAsItWas(t *testing.T) {
	for _, initiated := range []string{`,"partSize":1000`, `,"partSize":1000,"streaming":true`} {
		_, u, s := start(t, initiated)
		blob := bytesOf(2500)
		require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob[:500]), 500))
		broken := io.MultiReader(bytes.NewReader(blob[500:2000]), iotest.ErrReader(errors.New("the client is gone")))
		var body *upload.BodyError
		require.ErrorAs(t, u.Append(t.Context(), s, broken, 2000), &body)
		again, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
		require.NoError(t, err)
		require.EqualValues(t, 500, again.Offset)
		require.NoError(t, u.Append(t.Context(), again, bytes.NewReader(blob[500:]), 2000))
		require.NoError(t, u.Finish(t.Context(), again, digest.FromBytes(blob)))
	}
}

func TestOfTwoRequestsAtOnceOnlyOneMovesTheUpload(t *testing.T) {
	_, u, s := start(t, `,"partSize":1000`)
	other, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.NoError(t, err)
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(bytesOf(10)), 10))
	require.ErrorIs(t, u.Append(t.Context(), other, bytes.NewReader(bytesOf(10)), 10), upload.ErrConflict)
	require.Zero(t, other.Offset)
}

// A client that lost its connection tries again while the server still has the first request.
func TestARequestThatComesLateOverwritesNothing(t *testing.T) {
	for _, initiated := range []string{`,"partSize":1000`, `,"partSize":1000,"streaming":true`} {
		h, u, s := start(t, initiated)
		late, client := io.Pipe()
		lateErr := make(chan error, 1)
		first := *s
		go func() { lateErr <- u.Append(t.Context(), &first, late, 10) }()
		_, err := client.Write([]byte("first"))
		require.NoError(t, err)
		second, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
		require.NoError(t, err)
		require.NoError(t, u.Append(t.Context(), second, bytes.NewReader(bytesOf(1500)), 1500))
		_, err = client.Write([]byte("later"))
		require.NoError(t, err)
		client.Close()
		require.ErrorIs(t, <-lateErr, upload.ErrConflict)
		require.NoError(t, u.Finish(t.Context(), second, digest.FromBytes(bytesOf(1500))))
		require.True(t, bytes.Equal(bytesOf(1500), h.completed))
	}
}

// holdsOfAllKinds answer initiateUpload so: in parts, as a stream, and as a foreign hold that takes none after a short one.
var holdsOfAllKinds = []string{`,"partSize":1000`, `,"partSize":1000,"streaming":true`, ""}

func TestALastRequestThatTheHoldFailedToCompleteIsRepeatedWithItsBytes(t *testing.T) {
	for _, initiated := range holdsOfAllKinds {
		h, u, s := start(t, initiated)
		unit := 1000
		if initiated == "" {
			unit = 1 << 20 // foreign holds take no part below 5 MiB but the last
		}
		blob, before := bytesOf(6*unit), 5*unit
		require.NoError(t, u.Append(t.Context(), s, bytes.NewReader(blob[:before]), int64(before)))
		h.unwilling = 2
		for range 2 {
			last, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
			require.NoError(t, err)
			require.EqualValues(t, before, last.Offset, "a client that asks is told of what was acknowledged only")
			require.NoError(t, u.AppendLast(t.Context(), last, bytes.NewReader(blob[before:]), int64(len(blob)-before)))
			kind, _ := holdclient.KindOf(u.Finish(t.Context(), last, digest.FromBytes(blob)))
			require.Equal(t, holdclient.Unavailable, kind)
			require.Nil(t, h.completed)
		}
		last, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
		require.NoError(t, err)
		require.NoError(t, u.AppendLast(t.Context(), last, bytes.NewReader(blob[before:]), int64(len(blob)-before)))
		require.NoError(t, u.Finish(t.Context(), last, digest.FromBytes(blob)))
		require.True(t, bytes.Equal(blob, h.completed), "no byte lost or doubled")
		_, err = u.Sessions.Get(t.Context(), alice, "app", s.ID)
		require.ErrorIs(t, err, upload.ErrUnknown)
	}
}

func TestAChunkAndALastRequestAtOnce(t *testing.T) {
	for _, initiated := range holdsOfAllKinds[:2] {
		for _, lastIsFirst := range []bool{true, false} {
			h, u, s := start(t, initiated)
			require.NoError(t, u.Append(t.Context(), s, bytes.NewReader([]byte("first ")), 6))
			slow, quick := u.AppendLast, u.Append
			if !lastIsFirst {
				slow, quick = quick, slow
			}
			body, client := io.Pipe()
			one := *s
			done := make(chan error, 1)
			go func() { done <- slow(t.Context(), &one, body, 10) }()
			_, err := client.Write([]byte("slow "))
			require.NoError(t, err)
			two, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
			require.NoError(t, err)
			require.EqualValues(t, 6, two.Offset)
			quickErr := quick(t.Context(), two, bytes.NewReader([]byte("quick")), 5)
			_, err = client.Write([]byte("bytes"))
			require.NoError(t, err)
			client.Close()
			slowErr := <-done

			require.NoError(t, quickErr)
			if streaming := strings.Contains(initiated, "streaming"); lastIsFirst && streaming {
				// It had its part's number first. All that it completes is hashed, so it is right whatever came meanwhile.
				require.NoError(t, slowErr)
				require.NoError(t, u.Finish(t.Context(), &one, digest.FromString("first slow bytes")))
				require.Equal(t, "first slow bytes", string(h.completed))
				require.ErrorIs(t, u.Append(t.Context(), two, strings.NewReader("more"), 4), upload.ErrConflict, "the upload is over")
				continue
			}
			require.ErrorIs(t, slowErr, upload.ErrConflict)
			require.NoError(t, u.Finish(t.Context(), two, digest.FromString("first quick")))
			require.Equal(t, "first quick", string(h.completed))
		}
	}
}

func TestAWrongDigestEndsTheUploadBeforeTheHoldCompletesIt(t *testing.T) {
	h, u, s := start(t, `,"partSize":1000`)
	require.NoError(t, u.Append(t.Context(), s, bytes.NewReader([]byte("these")), 5))
	require.ErrorIs(t, u.Finish(t.Context(), s, digest.FromString("those")), upload.ErrDigest)
	require.Nil(t, h.completed)
	require.Equal(t, 1, h.aborted)
	_, err := u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.ErrorIs(t, err, upload.ErrUnknown)
}

func TestUploadsAreForgottenWhenTheyStandStill(t *testing.T) {
	_, u, s := start(t, "")
	n, err := u.Sessions.Forget(t.Context(), time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = u.Sessions.Forget(t.Context(), time.Now().Add(time.Second))
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	_, err = u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.ErrorIs(t, err, upload.ErrUnknown)
}

func TestAnAccountHasABoundedNumberOfUploadsOpen(t *testing.T) {
	h, u, s := start(t, `,"partSize":1000`)
	now := time.Now()
	u.Sessions.Now = func() time.Time { return now }
	at, err := u.Holds.Resolve(t.Context(), s.Hold)
	require.NoError(t, err)
	open := func(did syntax.DID) error {
		_, err := u.Start(t.Context(), at, did, "app", digest.SHA256, "")
		return err
	}
	for range upload.MaxOpen - 1 {
		require.NoError(t, open(alice))
	}
	require.ErrorIs(t, open(alice), upload.ErrTooMany)
	require.NoError(t, open("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"), "others are not hurt")
	require.Zero(t, h.aborted)

	now = now.Add(11 * time.Minute)
	require.NoError(t, open(alice), "one that its client has left gives way")
	require.Equal(t, 1, h.aborted, "at the hold too")
	_, err = u.Sessions.Get(t.Context(), alice, "app", s.ID)
	require.ErrorIs(t, err, upload.ErrUnknown, "it was the oldest")
}
