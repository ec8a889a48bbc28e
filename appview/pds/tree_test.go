package pds

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever a batch does to the tree: the nodes stored before, without those told to be gone, with those written, are
// exactly the nodes of the tree after it; and the tree is the one that its records define.
func TestEachBatchLeavesExactlyTheNodesOfTheTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		empty := mst.NewEmptyTree()
		tree, records, stored := &empty, map[string]cid.Cid{}, map[cid.Cid]bool{}
		for range rapid.IntRange(1, 15).Draw(t, "batches") {
			old := oldNodes{}
			keys := rapid.SliceOfNDistinct(rapid.IntRange(0, 80), 1, 12, rapid.ID[int]).Draw(t, "keys")
			for _, k := range keys {
				key := fmt.Sprintf("test.example.note/k%d", k)
				value, err := cborBlock([]byte{byte(rapid.IntRange(0, 3).Draw(t, "value"))})
				require.NoError(t, err)
				old.touch(tree, []byte(key))
				if rapid.IntRange(0, 2).Draw(t, "op") == 0 {
					_, err = tree.Remove([]byte(key))
					delete(records, key)
				} else {
					_, err = tree.Insert([]byte(key), value.Cid())
					records[key] = value.Cid()
				}
				require.NoError(t, err)
				tree = normalised(tree)
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
		}
	})
}

func collect(n *mst.Node, into map[cid.Cid]bool) {
	into[*n.CID] = true
	for _, e := range n.Entries {
		if e.Child != nil {
			collect(e.Child, into)
		}
	}
}
