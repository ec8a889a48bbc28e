package pds

import (
	"bytes"
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/repo/mst"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	blockstore "github.com/ipfs/go-ipfs-blockstore"
)

// coverNodes visits every MST node that a change at key can touch, and that proves what is or is not at key: the search
// path, and below the key's own node the edges of the two subtrees beside it.
func coverNodes(n *mst.Node, key []byte, visit func(*mst.Node)) {
	visit(n)
	at := len(n.Entries)
	exact := false
	for i := range n.Entries {
		if n.Entries[i].IsValue() {
			if c := bytes.Compare(n.Entries[i].Key, key); c >= 0 {
				at, exact = i, c == 0
				break
			}
		}
	}
	if at > 0 && n.Entries[at-1].Child != nil {
		coverNodes(n.Entries[at-1].Child, key, visit)
	}
	if exact && at+1 < len(n.Entries) && n.Entries[at+1].Child != nil {
		coverNodes(n.Entries[at+1].Child, key, visit)
	}
}

// firstKey is a key by which a search passes through the node, nil for an empty tree.
func firstKey(n *mst.Node) []byte {
	for i := range n.Entries {
		if n.Entries[i].IsValue() {
			return n.Entries[i].Key
		}
		if n.Entries[i].Child != nil {
			return firstKey(n.Entries[i].Child)
		}
	}
	return nil
}

// pathHas reports whether the search for key passes through the node with this CID.
func pathHas(root *mst.Node, key []byte, node cid.Cid) bool {
	found := false
	coverNodes(root, key, func(n *mst.Node) {
		if n.CID != nil && *n.CID == node {
			found = true
		}
	})
	return found
}

// oldNodes are the nodes that a commit may take out of the tree, each with a key under it by which to look for it afterwards.
type oldNodes map[cid.Cid][]byte

// touch notes what a change at key may take out; call it before the change.
func (o oldNodes) touch(t *mst.Tree, key []byte) {
	coverNodes(t.Root, key, func(n *mst.Node) {
		if n.CID == nil {
			return
		}
		// The first look counts: later in the batch the node may have other keys under its old CID.
		if _, seen := o[*n.CID]; !seen {
			o[*n.CID] = firstKey(n)
		}
	})
}

// gone are those that the tree, encoded again, has no more.
func (o oldNodes) gone(t *mst.Tree) []cid.Cid {
	var out []cid.Cid
	for node, key := range o {
		if !pathHas(t.Root, key, node) {
			out = append(out, node)
		}
	}
	return out
}

// nodeBlock encodes a clean node.
func nodeBlock(n *mst.Node) (blocks.Block, error) {
	data := n.NodeData()
	raw, c, err := data.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode an MST node: %w", err)
	}
	return blocks.NewBlockWithCid(raw, *c)
}

// loadTree reads a whole tree; get returns the content of a block.
func loadTree(ctx context.Context, root cid.Cid, get func(context.Context, cid.Cid) ([]byte, error)) (*mst.Tree, error) {
	tree, err := mst.LoadTreeFromStore(ctx, blockFunc(get), root)
	if err != nil {
		return nil, fmt.Errorf("load the MST: %w", err)
	}
	if tree.IsPartial() {
		return nil, fmt.Errorf("load the MST of root %s: blocks are missing", root)
	}
	return normalised(tree), nil
}

// normalised gives an empty tree the height of a new one: after the last key of a higher layer was removed the root would
// otherwise keep its height, and the next insert would build a tree that starts with a bare pointer.
func normalised(t *mst.Tree) *mst.Tree {
	if t.IsEmpty() {
		empty := mst.NewEmptyTree()
		return &empty
	}
	return t
}

type blockFunc func(context.Context, cid.Cid) ([]byte, error)

func (f blockFunc) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	raw, err := f(ctx, c)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(raw, c)
}

// blockSet collects blocks in the order of their arrival, each once.
type blockSet struct {
	blockstore.Blockstore // only Put is called by the MST writer
	order                 []blocks.Block
	seen                  map[cid.Cid]bool
	size                  int
}

func newBlockSet() *blockSet { return &blockSet{seen: map[cid.Cid]bool{}} }

func (s *blockSet) Put(_ context.Context, b blocks.Block) error {
	s.add(b)
	return nil
}

func (s *blockSet) add(b blocks.Block) {
	if !s.seen[b.Cid()] {
		s.seen[b.Cid()] = true
		s.order = append(s.order, b)
		s.size += len(b.RawData())
	}
}
