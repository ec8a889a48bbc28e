package pds_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

const writerDir = "PDS_TEST_WRITER_DIR"

// TestMain turns the test binary into a writer that is there to be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		if err := writeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForever commits records with blobs, and tells each one only after it was acknowledged.
func writeForever(dir string) error {
	ctx := context.Background()
	e, err := pds.Open(ctx, pds.Config{Dir: dir})
	if err != nil {
		return err
	}
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return err
	}
	if has, err := e.HasRepo(ctx, alice); err != nil {
		return err
	} else if !has {
		if err := e.CreateRepo(ctx, pds.NewRepo{DID: alice, Key: key}); err != nil {
			return err
		}
	}
	for i := 0; ; i++ {
		text := fmt.Sprint(time.Now().UnixNano())
		blob, err := e.PutBlob(ctx, alice, "text/plain", strings.NewReader(text), 100)
		if err != nil {
			return err
		}
		results, commit, err := e.ApplyWrites(ctx, alice, []pds.Write{
			{Op: pds.Create, Collection: notes, Value: map[string]any{"text": text, "blob": blob}},
			{Op: pds.Put, Collection: notes, RKey: syntax.RecordKey(fmt.Sprint("slot", i%50)), Value: note(text)},
			{Op: pds.Delete, Collection: notes, RKey: syntax.RecordKey(fmt.Sprint("slot", (i+25)%50))},
		}, cid.Undef)
		if err != nil {
			return err
		}
		fmt.Println(results[0].URI.RecordKey(), text, blob.Ref, commit.Rev)
	}
}

type acknowledged struct{ text, blob string }

// runUntilKilled starts a writer, kills it once it has acknowledged n commits, and returns all that it acknowledged.
func runUntilKilled(t *testing.T, dir string, n int, into map[string]acknowledged) (lastRev string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for count := 0; lines.Scan(); count++ {
		f := strings.Fields(lines.Text())
		if len(f) < 4 {
			break // cut off by the kill
		}
		into[f[0]] = acknowledged{f[1], f[2]}
		lastRev = f[3]
		if count == n {
			require.NoError(t, cmd.Process.Kill()) // SIGKILL; what it wrote to the pipe until then is still read
		}
	}
	require.Error(t, cmd.Wait(), "the writer ends only by being killed")
	require.NotEmpty(t, lastRev, "the writer acknowledged nothing")
	return lastRev
}

func TestKillingTheProcessLosesNoAcknowledgedCommit(t *testing.T) {
	dir := t.TempDir()
	known := map[string]acknowledged{}
	for round := range 6 {
		last := runUntilKilled(t, dir, 5+round*7, known)
		e, err := pds.Open(t.Context(), pds.Config{Dir: dir})
		require.NoError(t, err)
		head, err := e.LatestCommit(t.Context(), alice)
		require.NoError(t, err)
		require.GreaterOrEqual(t, string(head.Rev), last)
		for rkey, want := range known {
			r, err := e.GetRecord(t.Context(), alice, notes, syntax.RecordKey(rkey))
			require.NoError(t, err, "acknowledged, but lost")
			require.Equal(t, want.text, r.Value["text"])
			c, err := cid.Decode(want.blob)
			require.NoError(t, err)
			blob, err := e.OpenBlob(t.Context(), alice, c)
			require.NoError(t, err, "the blob of an acknowledged record is lost")
			require.NoError(t, blob.Close())
		}
		records := verifiedExport(t, e, alice)
		require.GreaterOrEqual(t, len(records), len(known))
		requireOnlyLiveBlocks(t, e, len(records))
		put(t, e, fmt.Sprint("after-round-", round), "x") // and it goes on
		require.NoError(t, e.Close())
	}
}
