package pds_test

import (
	"bytes"
	"fmt"
	"maps"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"atcr.io/operator/appview/pds"
)

func TestARecordIsReadBackAsWritten(t *testing.T) {
	e := newRepo(t)
	value := map[string]any{
		"text": "grüße", "n": int64(-7), "yes": true, "none": nil,
		"list": []any{"a", int64(1), map[string]any{"deep": "x"}}, "raw": atdata.Bytes{1, 2, 3},
	}
	results, commit, err := e.ApplyWrites(t.Context(), alice, []pds.Write{{Op: pds.Create, Collection: notes, Value: value}}, cid.Undef)
	require.NoError(t, err)
	require.True(t, commit.Changed)
	rkey := results[0].URI.RecordKey()
	_, err = syntax.ParseTID(string(rkey))
	require.NoError(t, err, "a create without a key gets a TID")

	got, err := e.GetRecord(t.Context(), alice, notes, rkey)
	require.NoError(t, err)
	value["$type"] = string(notes)
	require.Equal(t, value, got.Value)
	require.Equal(t, results[0].CID, got.CID)
}

func TestAnIdenticalPutMakesNoCommit(t *testing.T) {
	e := newRepo(t)
	first := put(t, e, "a", "same")
	second := put(t, e, "a", "same")
	require.False(t, second.Changed)
	require.Equal(t, first.CID, second.CID)
	require.False(t, remove(t, e, "absent").Changed)
}

func TestAllWritesOfACallHappenOrNone(t *testing.T) {
	e := newRepo(t)
	put(t, e, "taken", "old")
	before, err := e.LatestCommit(t.Context(), alice)
	require.NoError(t, err)

	_, _, err = e.ApplyWrites(t.Context(), alice, []pds.Write{
		{Op: pds.Put, Collection: notes, RKey: "new", Value: note("new")},
		{Op: pds.Create, Collection: notes, RKey: "taken", Value: note("x")},
	}, cid.Undef)
	require.ErrorIs(t, err, pds.ErrRecordExists)
	_, err = e.GetRecord(t.Context(), alice, notes, "new")
	require.ErrorIs(t, err, pds.ErrRecordNotFound)
	after, err := e.LatestCommit(t.Context(), alice)
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestWritesAreRefusedWhenTheyDoNotFitTheState(t *testing.T) {
	e := newRepo(t)
	old := put(t, e, "a", "one")
	record, err := e.GetRecord(t.Context(), alice, notes, "a")
	require.NoError(t, err)
	put(t, e, "a", "two")

	cases := map[string]struct {
		write pds.Write
		swap  cid.Cid
		want  error
	}{
		"update of an absent record":          {pds.Write{Op: pds.Update, RKey: "b", Value: note("x")}, cid.Undef, pds.ErrRecordNotFound},
		"strict delete of an absent record":   {pds.Write{Op: pds.Delete, RKey: "b", MustExist: true}, cid.Undef, pds.ErrRecordNotFound},
		"swap of a record that moved on":      {pds.Write{Op: pds.Put, RKey: "a", Value: note("x"), Swap: &pds.SwapRecord{CID: record.CID}}, cid.Undef, pds.ErrInvalidSwap},
		"swap that wants no record":           {pds.Write{Op: pds.Put, RKey: "a", Value: note("x"), Swap: &pds.SwapRecord{}}, cid.Undef, pds.ErrInvalidSwap},
		"swap of a commit that moved on":      {pds.Write{Op: pds.Put, RKey: "a", Value: note("x")}, old.CID, pds.ErrInvalidSwap},
		"slash in the key":                    {pds.Write{Op: pds.Put, RKey: "a/b", Value: note("x")}, cid.Undef, pds.ErrInvalidRecord},
		"dot as the key":                      {pds.Write{Op: pds.Put, RKey: ".", Value: note("x")}, cid.Undef, pds.ErrInvalidRecord},
		"no key":                              {pds.Write{Op: pds.Put, Value: note("x")}, cid.Undef, pds.ErrInvalidRecord},
		"float":                               {pds.Write{Op: pds.Put, RKey: "f", Value: map[string]any{"n": 1.5}}, cid.Undef, pds.ErrInvalidRecord},
		"whole float":                         {pds.Write{Op: pds.Put, RKey: "f", Value: map[string]any{"n": 1.0}}, cid.Undef, pds.ErrInvalidRecord},
		"type of another collection":          {pds.Write{Op: pds.Put, RKey: "f", Value: map[string]any{"$type": "test.example.other"}}, cid.Undef, pds.ErrInvalidRecord},
		"invalid UTF-8":                       {pds.Write{Op: pds.Put, RKey: "f", Value: note("\xff")}, cid.Undef, pds.ErrInvalidRecord},
		"a type outside the data model":       {pds.Write{Op: pds.Put, RKey: "f", Value: map[string]any{"n": []string{"x"}}}, cid.Undef, pds.ErrInvalidRecord},
		"a record above 1 MiB":                {pds.Write{Op: pds.Put, RKey: "f", Value: note(string(bytes.Repeat([]byte("x"), 1<<20)))}, cid.Undef, pds.ErrInvalidRecord},
		"a blob that was never uploaded":      {pds.Write{Op: pds.Put, RKey: "f", Value: map[string]any{"b": atdata.Blob{Ref: atdata.CIDLink(record.CID), MimeType: "x/y", Size: 1}}}, cid.Undef, pds.ErrBlobNotFound},
		"a collection that is not an NSID":    {pds.Write{Op: pds.Put, Collection: "nope", RKey: "f", Value: note("x")}, cid.Undef, pds.ErrInvalidRecord},
		"an operation that nobody knows":      {pds.Write{Op: 77, RKey: "f", Value: note("x")}, cid.Undef, pds.ErrInvalidRecord},
		"a link key that is no link in a map": {pds.Write{Op: pds.Put, RKey: "f", Value: map[string]any{"m": map[string]any{"$link": "x"}}}, cid.Undef, pds.ErrInvalidRecord},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if c.write.Collection == "" {
				c.write.Collection = notes
			}
			_, _, err := e.ApplyWrites(t.Context(), alice, []pds.Write{c.write}, c.swap)
			require.ErrorIs(t, err, c.want)
		})
	}
	_, _, err = e.ApplyWrites(t.Context(), "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", nil, cid.Undef)
	require.ErrorIs(t, err, pds.ErrRepoNotFound)
	_, _, err = e.ApplyWrites(t.Context(), alice, make([]pds.Write, pds.MaxWrites+1), cid.Undef)
	require.ErrorIs(t, err, pds.ErrTooManyWrites)
	require.Len(t, verifiedExport(t, e, alice), 1)
}

func TestACommitTooLargeForTheFirehoseIsRefusedAndLeavesTheTreeSound(t *testing.T) {
	e := newRepo(t)
	put(t, e, "before", "x")
	var writes []pds.Write
	for i := range 4 {
		big := note(string(bytes.Repeat([]byte{'a' + byte(i)}, 600_000)))
		writes = append(writes, pds.Write{Op: pds.Put, Collection: notes, RKey: syntax.RecordKey(fmt.Sprint("big", i)), Value: big})
	}
	_, _, err := e.ApplyWrites(t.Context(), alice, writes, cid.Undef)
	require.ErrorIs(t, err, pds.ErrTooManyWrites)
	put(t, e, "after", "x")
	require.Len(t, verifiedExport(t, e, alice), 2)
}

func TestRecordsAreListedInPages(t *testing.T) {
	e := newRepo(t)
	for i := range 25 {
		put(t, e, fmt.Sprintf("k%02d", i), fmt.Sprint(i))
	}
	page, next, err := e.ListRecords(t.Context(), alice, notes, pds.ListOptions{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, "k24", string(page[0].RKey), "newest keys come first")
	require.Equal(t, "k15", next)
	page, _, err = e.ListRecords(t.Context(), alice, notes, pds.ListOptions{Limit: 10, Reverse: true, Cursor: "k05"})
	require.NoError(t, err)
	require.Equal(t, "k06", string(page[0].RKey))
	_, _, err = e.ListRecords(t.Context(), alice, notes, pds.ListOptions{Limit: 101})
	require.ErrorIs(t, err, pds.ErrInvalidRequest)

	var seen int
	for r, err := range e.Records(t.Context(), alice, notes) {
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("k%02d", seen), string(r.RKey))
		seen++
	}
	require.Equal(t, 25, seen)
	collections, err := e.Collections(t.Context(), alice)
	require.NoError(t, err)
	require.Equal(t, []syntax.NSID{notes}, collections)
}

func TestAReopenedEngineContinuesWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	e, err := pds.Open(t.Context(), pds.Config{Dir: dir})
	require.NoError(t, err)
	key := newKey(t)
	require.NoError(t, e.CreateRepo(t.Context(), pds.NewRepo{DID: alice, Key: key}))
	require.ErrorIs(t, e.CreateRepo(t.Context(), pds.NewRepo{DID: alice, Key: key}), pds.ErrRepoExists)
	for i := range 40 {
		put(t, e, fmt.Sprint("k", i), "x")
	}
	last, err := e.LatestCommit(t.Context(), alice)
	require.NoError(t, err)
	require.NoError(t, e.Close())

	e = openEngine(t, dir)
	has, err := e.SigningKey(t.Context(), alice)
	require.NoError(t, err)
	require.True(t, key.Equal(has))
	next := put(t, e, "k7", "changed")
	require.Greater(t, next.Rev, last.Rev)
	require.Len(t, verifiedExport(t, e, alice), 40)
	repos, _, err := e.ListRepos(t.Context(), "", 10)
	require.NoError(t, err)
	require.Equal(t, []pds.RepoInfo{{DID: alice, Head: next.CID, Rev: next.Rev}}, repos)
}

func TestARotatedKeySignsTheNextCommit(t *testing.T) {
	e := newRepo(t)
	put(t, e, "a", "x")
	key := newKey(t)
	require.NoError(t, e.RotateKey(t.Context(), alice, key))
	require.Len(t, verifiedExport(t, e, alice), 1) // verifies with the engine's key
	has, err := e.SigningKey(t.Context(), alice)
	require.NoError(t, err)
	require.True(t, key.Equal(has))
	head, err := e.LatestCommit(t.Context(), alice)
	require.NoError(t, err)
	require.NoError(t, e.RotateKey(t.Context(), alice, key))
	again, err := e.LatestCommit(t.Context(), alice)
	require.NoError(t, err)
	require.Equal(t, head, again)
}

// Any sequence of commits: the repository equals a plain map, its export verifies and holds exactly its own blocks, and
// a consumer of the firehose can undo each commit from the event alone.
func TestTheRepositoryIsAMapWithProofs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		e, err := pds.Open(t.Context(), pds.Config{Dir: dir})
		require.NoError(rt, err)
		defer func() { require.NoError(rt, e.Close()) }()
		require.NoError(rt, e.CreateRepo(t.Context(), pds.NewRepo{DID: alice, Key: newKey(t)}))
		model := map[string]string{}
		var undoable []bool // of each commit, by indigo: see survives
		for range rapid.IntRange(1, 12).Draw(rt, "commits") {
			var writes []pds.Write
			used := map[string]bool{}
			before := maps.Clone(model)
			for range rapid.IntRange(1, 12).Draw(rt, "writes") {
				key := fmt.Sprint("k", rapid.IntRange(0, 60).Draw(rt, "key"))
				if used[key] {
					continue
				}
				used[key] = true
				if rapid.IntRange(0, 2).Draw(rt, "op") == 0 {
					writes = append(writes, pds.Write{Op: pds.Delete, Collection: notes, RKey: syntax.RecordKey(key)})
					delete(model, key)
				} else {
					text := fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "value")) // few values: records share blocks
					writes = append(writes, pds.Write{Op: pds.Put, Collection: notes, RKey: syntax.RecordKey(key), Value: note(text)})
					model[key] = text
				}
			}
			_, c, err := e.ApplyWrites(t.Context(), alice, writes, cid.Undef)
			require.NoError(rt, err)
			if c.Changed {
				undoable = append(undoable, survives(before, model))
			}
		}
		records := verifiedExport(t, e, alice)
		require.Len(rt, records, len(model))
		for key, text := range model {
			r, err := e.GetRecord(t.Context(), alice, notes, syntax.RecordKey(key))
			require.NoError(rt, err)
			require.Equal(rt, text, r.Value["text"])
			require.Equal(rt, records[string(notes)+"/"+key], r.CID)
		}
		requireOnlyLiveBlocks(t, e, len(model))
		for i, ev := range events(t, e, 4, len(undoable)) { // 4: identity, account, commit, sync of the creation
			msg := decodeCommit(t, ev)
			require.NotNil(rt, msg.PrevData)
			if undoable[i] {
				_, err := repo.VerifyCommitMessage(t.Context(), msg)
				require.NoError(rt, err, "the event cannot be undone to the state before it")
			}
		}
	})
}

// survives reports whether a key of the state before a commit is there after it, or there was none before. Otherwise
// indigo's undoing may empty the tree before it puts the old keys back (its order of operations is not a strict one),
// and its emptied tree keeps its height, so that it arrives at another root.
func survives(before, after map[string]string) bool {
	for key := range before {
		if _, ok := after[key]; ok {
			return true
		}
	}
	return len(before) == 0
}

// requireOnlyLiveBlocks compares the stored blocks with those that the head reaches.
func requireOnlyLiveBlocks(t testing.TB, e *pds.Engine, records int) {
	t.Helper()
	var all bytes.Buffer
	require.NoError(t, e.WriteRepoCAR(t.Context(), alice, "", &all))
	stored := carBlocks(t, all.Bytes())
	_, r, err := repo.LoadRepoFromCAR(t.Context(), bytes.NewReader(all.Bytes()))
	require.NoError(t, err)
	live := map[cid.Cid]bool{}
	values := map[string]cid.Cid{}
	require.NoError(t, r.MST.WriteToMap(values))
	require.Len(t, values, records)
	for _, c := range values {
		live[c] = true
	}
	countNodes(r.MST.Root, live)
	require.Len(t, stored, len(live)+1, "besides the commit, exactly the live nodes and records are stored")
	for c := range live {
		require.True(t, stored[c])
	}
}
