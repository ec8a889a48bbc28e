package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/oci/spec"
)

// MissingEntry says that an index names a manifest that its owner does not have.
type MissingEntry struct{ Digest digest.Digest }

func (e *MissingEntry) Error() string { return "there is no manifest " + string(e.Digest) }

// WrongSize says that an index gives one of its entries another size than it has.
type WrongSize struct {
	Digest    digest.Digest
	Says, Has int64 // bytes
}

func (e *WrongSize) Error() string {
	return fmt.Sprintf("it says that %s has %d bytes, but it has %d", e.Digest, e.Says, e.Has)
}

// CheckEntries insists that the entries of an index are manifests of the DID, in whatever repository, and as large as
// the index says; else the error is [MissingEntry] or [WrongSize]. Entries with URLs live elsewhere.
func (m *Mirror) CheckEntries(ctx context.Context, did syntax.DID, index *spec.Document) error {
	err := m.checkEntries(ctx, did, index)
	var missing *MissingEntry
	if !errors.As(err, &missing) {
		return err
	}
	if err := m.Fresh(ctx, did, m.TTL); err != nil { // another AppView may have pushed it
		return err
	}
	return m.checkEntries(ctx, did, index)
}

// checkEntries is CheckEntries by what is mirrored now.
func (m *Mirror) checkEntries(ctx context.Context, did syntax.DID, index *spec.Document) error {
	known := map[digest.Digest]int64{}
	for _, entry := range index.Manifests {
		if len(entry.URLs) > 0 {
			continue
		}
		size, ok := known[entry.Digest]
		if !ok {
			var err error
			if size, err = m.sizeOf(ctx, did, entry.Digest); err != nil {
				return err
			}
			known[entry.Digest] = size
		}
		if size != entry.Size {
			return &WrongSize{entry.Digest, entry.Size, size}
		}
	}
	return nil
}

func (m *Mirror) sizeOf(ctx context.Context, did syntax.DID, d digest.Digest) (int64, error) {
	row, err := m.row(ctx, did, d)
	if errors.Is(err, ErrNotFound) {
		return 0, &MissingEntry{d}
	}
	if err != nil {
		return 0, err
	}
	if row.Size > 0 {
		return row.Size, nil
	}
	body, err := m.Bytes(ctx, row) // the record of another AppView, which does not say
	if errors.Is(err, ErrNotFound) || errors.Is(err, atproto.ErrBlobNotFound) {
		return 0, &MissingEntry{d}
	}
	return int64(len(body)), err
}
