package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/oci/spec"
	"atcr.io/operator/appview/store"
)

// ErrCorrupt says that a record and its bytes disagree: what the PDS has does not hash to the record's digest.
var ErrCorrupt = errors.New("the record does not match its bytes")

// Bytes are the bytes of a manifest exactly as they were pushed: from memory, else the store, else the user's PDS, which
// is asked once for all who want them at the same time. Whatever does not hash to the digest is never returned.
func (m *Mirror) Bytes(ctx context.Context, row *Manifest) ([]byte, error) {
	lookups := m.counts.lookups[CacheBytes]
	if b, ok := m.bytes.get(row.Digest); ok {
		lookups[Hit].Add(1)
		return b, nil
	}
	lookups[Miss].Add(1)
	// By owner too: one whose PDS has no such blob must not fail for another.
	ch := m.flight.DoChan("bytes "+string(row.DID)+" "+string(row.Digest), func() (_ any, err error) {
		defer background.Caught(ctx, m.Log, "reading a manifest", &err)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return m.loadBytes(ctx, row)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]byte), nil
	}
}

func (m *Mirror) loadBytes(ctx context.Context, row *Manifest) ([]byte, error) {
	b, err := m.storedBytes(ctx, row.Digest)
	if err != nil {
		return nil, err
	}
	if b == nil {
		if b, err = m.fetchBytes(ctx, row); err != nil {
			return nil, err
		}
		if err := m.Store.Write(ctx, func(tx store.Tx) error { return keepBytes(ctx, tx, row.Digest, b, m.Now()) }); err != nil {
			m.Log.WarnContext(ctx, "manifest bytes were not kept", "digest", row.Digest, "error", err)
		}
	}
	if row.Size == 0 {
		m.complete(ctx, row, b)
	}
	m.bytes.put(row.Digest, b)
	return b, nil
}

// fetchBytes reads a manifest from its owner's PDS.
func (m *Mirror) fetchBytes(ctx context.Context, row *Manifest) ([]byte, error) {
	if row.BlobCID == "" {
		return nil, fmt.Errorf("manifest %s has no manifestBlob: %w", row.Digest, ErrNotFound)
	}
	b, err := m.PDS.GetBlob(ctx, row.DID, row.BlobCID, spec.MaxManifestSize)
	if errors.Is(err, atproto.ErrBlobTooLarge) {
		m.counts.corrupt[CorruptPDS].Add(1)
		return nil, fmt.Errorf("manifest %s: %w", row.Digest, ErrCorrupt)
	}
	if err != nil {
		return nil, err
	}
	if row.Digest.Algorithm().FromBytes(b) != row.Digest {
		m.counts.corrupt[CorruptPDS].Add(1)
		m.Log.WarnContext(ctx, "a manifest record does not match its blob and is not served", "did", row.DID, "digest", row.Digest)
		return nil, fmt.Errorf("manifest %s: %w", row.Digest, ErrCorrupt)
	}
	return b, nil
}

func (m *Mirror) storedBytes(ctx context.Context, d digest.Digest) ([]byte, error) {
	b, err := readOne(ctx, m.Store, func(q querier) (b []byte, err error) {
		return b, q.QueryRowContext(ctx, `SELECT body FROM manifest_bytes WHERE digest = $1`, string(d)).Scan(&b)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if d.Algorithm().FromBytes(b) != d {
		m.counts.corrupt[CorruptStore].Add(1)
		m.Log.ErrorContext(ctx, "stored manifest bytes are damaged and are read again from the PDS", "digest", d)
		return nil, nil
	}
	return b, nil
}

func keepBytes(ctx context.Context, q store.Tx, d digest.Digest, b []byte, now time.Time) error {
	_, err := q.ExecContext(ctx, `INSERT INTO manifest_bytes (digest, body, size, used_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (digest) DO UPDATE SET body = excluded.body, size = excluded.size, used_at = excluded.used_at`,
		string(d), b, len(b), now.UnixMicro())
	return err
}

// complete fills in what only the bytes say.
func (m *Mirror) complete(ctx context.Context, row *Manifest, b []byte) {
	artifactType := ""
	_ = m.parsed(ctx, b, func(doc *spec.Document) { artifactType = ArtifactType(doc) })
	err := m.Store.Write(ctx, func(tx store.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE manifests SET size = $1, artifact_type = $2 WHERE did = $3 AND digest = $4`,
			len(b), artifactType, string(row.DID), string(row.Digest))
		return err
	})
	if err != nil {
		m.Log.WarnContext(ctx, "a mirrored manifest was not completed", "digest", row.Digest, "error", err)
	}
}

// fill reads a row's references out of the manifest's bytes, when its record left them out.
func (m *Mirror) fill(ctx context.Context, row *Manifest) {
	err := m.Document(ctx, row, func(doc *spec.Document, size int64) {
		row.references(doc)
		row.ArtifactType, row.Size = ArtifactType(doc), size
		row.Annotations = Annotations(doc)
	})
	if err != nil {
		m.Log.InfoContext(ctx, "a manifest's references are not known: its bytes cannot be read", "did", row.DID, "digest", row.Digest, "error", err)
	}
}
