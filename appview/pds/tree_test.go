package pds

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever a batch does to the tree: the nodes stored before, without those told to be gone, with those written, are
// exactly the nodes of the tree after it; the tree is the one that its records define; and the written nodes with the
// proofs are enough to undo the batch.
func TestEachBatchLeavesExactlyTheNodesOfTheTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		empty := mst.NewEmptyTree()
		tree, records, stored := &empty, map[string]cid.Cid{}, map[cid.Cid]bool{}
		before, err := tree.RootCID() // the empty root, stored when a repository is created
		require.NoError(t, err)
		stored[*before] = true
		for range rapid.IntRange(1, 15).Draw(t, "batches") {
			old := oldNodes{}
			var changes []change
			var ops []repo.Operation
			keys := rapid.SliceOfNDistinct(rapid.IntRange(0, 80), 1, 12, rapid.ID[int]).Draw(t, "keys")
			for _, k := range keys {
				key := fmt.Sprintf("test.example.note/k%d", k)
				b, err := cborBlock([]byte{byte(rapid.IntRange(0, 3).Draw(t, "value"))})
				require.NoError(t, err)
				value := b.Cid()
				to := &value
				if rapid.IntRange(0, 2).Draw(t, "op") == 0 {
					to = nil
				}
				if has, ok := records[key]; !ok && to == nil || ok && to != nil && has == value {
					continue // nothing to do: such writes never reach the tree
				}
				old.touch(tree, []byte(key))
				op, err := repo.ApplyOp(tree, key, to)
				require.NoError(t, err)
				if to == nil {
					delete(records, key)
				} else {
					records[key] = value
				}
				tree = normalised(tree)
				ops = append(ops, *op)
				changes = append(changes, change{prepared: prepared{path: key}})
			}
			written := newBlockSet()
			root, err := tree.WriteDiffBlocks(t.Context(), written)
			require.NoError(t, err)
			for _, b := range written.order {
				stored[b.Cid()] = true
			}
			for _, c := range old.gone(tree) {
				delete(stored, c)
			}
			live := map[cid.Cid]bool{}
			collect(tree.Root, live)
			require.ElementsMatch(t, slices.Collect(maps.Keys(live)), slices.Collect(maps.Keys(stored)))
			want, err := mst.LoadTreeFromMap(records)
			require.NoError(t, err)
			wantRoot, err := want.RootCID()
			require.NoError(t, err)
			require.Equal(t, *wantRoot, *root)

			require.NoError(t, addProofs(tree, changes, written))
			requireUndone(t, *root, written, ops, *before)
			before = root
		}
	})
}

// requireUndone inverts the operations on the partial tree that the blocks hold.
func requireUndone(t *rapid.T, root cid.Cid, have *blockSet, ops []repo.Operation, before cid.Cid) {
	blocksByCID := repo.NewTinyBlockstore()
	for _, b := range have.order {
		require.NoError(t, blocksByCID.Put(t.Context(), b))
	}
	partial, err := mst.LoadTreeFromStore(t.Context(), blocksByCID, root)
	require.NoError(t, err)
	ops, err = repo.NormalizeOps(ops)
	require.NoError(t, err)
	for _, op := range ops {
		require.NoError(t, repo.InvertOp(partial, &op))
	}
	got, err := partial.RootCID()
	require.NoError(t, err)
	require.Equal(t, before, *got)
}

func collect(n *mst.Node, into map[cid.Cid]bool) {
	into[*n.CID] = true
	for _, e := range n.Entries {
		if e.Child != nil {
			collect(e.Child, into)
		}
	}
}
