package upload

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/oci/spec"
	"atcr.io/operator/appview/store"
)

var (
	// ErrUnknown says that there is no such upload in this repository.
	ErrUnknown = errors.New("unknown upload")
	// ErrConflict says that another request moved the upload at the same time.
	ErrConflict = errors.New("another request moved this upload")
)

// Session is an upload in progress.
type Session struct {
	ID         string // 128 random bits
	DID        syntax.DID
	Repository string
	Hold       syntax.DID
	Offset     int64 // bytes that the hold has
	Algorithm  digest.Algorithm
	Upload     holdclient.Upload
	Parts      []holdclient.Part

	trusted bool   // bytes were not hashed here: the hold verifies them
	claimed int    // the highest part number that any request has used
	short   bool   // the last part was smaller than Upload.MinPart: no further part may follow
	state   []byte // of the hash over the bytes so far
	version int64
}

// stored is the part of a session that only this package reads.
type stored struct {
	Algorithm digest.Algorithm  `json:"algorithm"`
	Upload    holdclient.Upload `json:"upload"`
	Parts     []holdclient.Part `json:"parts"`
	Claimed   int               `json:"claimed"` // or notBegun
	Short     bool              `json:"short,omitempty"`
	Hash      string            `json:"hash,omitempty"`
}

// notBegun is stored of an upload that is not open at its hold. Releases that know of none refuse it then, and the client
// begins anew; they would lose its bytes otherwise.
const notBegun = -1

// newID is 128 random bits in the URL alphabet.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// hasher continues the hash of the session's bytes.
func (s *Session) hasher() (hash.Hash, error) {
	h := s.Algorithm.Hash()
	if len(s.state) > 0 {
		if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.state); err != nil {
			return nil, fmt.Errorf("upload %s: hash state: %w", s.ID, err)
		}
	}
	return h, nil
}

// Digest is the digest of the bytes so far, by the session's algorithm.
func (s *Session) Digest() (digest.Digest, error) {
	h, err := s.hasher()
	if err != nil {
		return "", err
	}
	return digest.NewDigest(s.Algorithm, h), nil
}

// Sessions keeps uploads in the store (tables uploads and ended_uploads).
type Sessions struct {
	Store *store.DB
	Now   func() time.Time
}

// exec runs a statement and says how many rows it met. With SQLite it does not wait for the disk: what a power cut may
// take is the way back to parts that their hold has not synced either, and the client starts again.
func (t *Sessions) exec(ctx context.Context, statement string, args ...any) (n int64, err error) {
	err = t.Store.WriteSoon(ctx, func(tx store.Tx) error {
		res, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}

func (t *Sessions) encode(s *Session) (string, error) {
	claimed := s.claimed
	if s.Upload.ID == "" {
		claimed = notBegun
	}
	b, err := json.Marshal(stored{s.Algorithm, s.Upload, s.Parts, claimed, s.short, base64.StdEncoding.EncodeToString(s.state)})
	return string(b), err
}

func (t *Sessions) create(ctx context.Context, s *Session) error {
	state, err := t.encode(s)
	if err != nil {
		return err
	}
	s.version = 1
	_, err = t.exec(ctx, `INSERT INTO uploads (id, did, repository, hold, byte_offset, state, version, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		s.ID, string(s.DID), s.Repository, string(s.Hold), s.Offset, state, s.version, t.Now().UnixMicro())
	if err != nil {
		return fmt.Errorf("keep upload: %w", err)
	}
	return nil
}

// Get finds an upload of a repository.
func (t *Sessions) Get(ctx context.Context, did syntax.DID, repository, id string) (*Session, error) {
	s := &Session{ID: id, DID: did, Repository: repository}
	var hold, state string
	err := t.Store.ReadOne(ctx, func(q store.Querier) error {
		return q.QueryRowContext(ctx, `SELECT hold, byte_offset, state, version FROM uploads
			WHERE id = $1 AND did = $2 AND repository = $3`, id, string(did), repository).Scan(&hold, &s.Offset, &state, &s.version)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("read upload: %w", err)
	}
	s.Hold = syntax.DID(hold)
	return s, s.decode(state)
}

func (s *Session) decode(state string) error {
	var in stored
	if err := json.Unmarshal([]byte(state), &in); err != nil {
		return fmt.Errorf("read upload: %w", err)
	}
	hash, err := base64.StdEncoding.DecodeString(in.Hash)
	if err != nil {
		return fmt.Errorf("read upload: %w", err)
	}
	if in.Claimed == notBegun && in.Upload.ID == "" {
		in.Claimed = 0
	}
	switch alg, ok := spec.ParseAlgorithm(string(in.Algorithm)); {
	case !ok || alg != in.Algorithm, in.Claimed < 0 || in.Claimed > maxParts,
		in.Upload.PartSize < 0 || in.Upload.PartSize > holdclient.MaxPartSize, in.Upload.MinPart < 0:
		return fmt.Errorf("read upload %s: its stored state is not one", s.ID)
	}
	s.Algorithm, s.Upload, s.Parts, s.claimed, s.short, s.state = in.Algorithm, in.Upload, in.Parts, in.Claimed, in.Short, hash
	return nil
}

// advance stores the new state if nobody else stored one since s was read.
func (t *Sessions) advance(ctx context.Context, s *Session) error {
	state, err := t.encode(s)
	if err != nil {
		return err
	}
	n, err := t.exec(ctx, `UPDATE uploads SET byte_offset = $1, state = $2, version = version + 1, updated_at = $3
		WHERE id = $4 AND version = $5`, s.Offset, state, t.Now().UnixMicro(), s.ID, s.version)
	if err != nil {
		return fmt.Errorf("keep upload: %w", err)
	}
	if n != 1 {
		return ErrConflict
	}
	s.version++
	return nil
}

// claim gives a part number that no other request has: one that comes late can then not overwrite a part that was
// acknowledged. Of several requests at once, the last to claim moves the upload; the others get [ErrConflict].
func (t *Sessions) claim(ctx context.Context, s *Session) (int, error) {
	if s.claimed == maxParts {
		return 0, ErrManyParts
	}
	s.claimed++
	return s.claimed, t.advance(ctx, s)
}

// RepeatTTL is how long it is remembered what an upload became, in which a client may repeat its last PUT.
const RepeatTTL = 5 * time.Minute

// end forgets an upload that has become a blob, and remembers what it became. The blob is on the hold's disk; after a power
// cut here a client that repeats its last PUT may have to begin again.
func (t *Sessions) end(ctx context.Context, s *Session, d digest.Digest) error {
	err := t.Store.WriteSoon(ctx, func(tx store.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM uploads WHERE id = $1`, s.ID); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO ended_uploads (id, did, repository, hold, digest, ended_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (id) DO NOTHING`, s.ID, string(s.DID), s.Repository, string(s.Hold), string(d), t.Now().UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("end upload: %w", err)
	}
	return nil
}

// Ended is the hold in which an upload of a repository has become the blob d, or [ErrUnknown].
func (t *Sessions) Ended(ctx context.Context, did syntax.DID, repository, id string, d digest.Digest) (hold syntax.DID, err error) {
	err = t.Store.ReadOne(ctx, func(q store.Querier) error {
		return q.QueryRowContext(ctx, `SELECT hold FROM ended_uploads WHERE id = $1 AND did = $2 AND repository = $3 AND digest = $4 AND ended_at > $5`,
			id, string(did), repository, string(d), t.Now().Add(-RepeatTTL).UnixMicro()).Scan(&hold)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", ErrUnknown
	}
	if err != nil {
		return "", fmt.Errorf("read upload: %w", err)
	}
	return hold, nil
}

func (t *Sessions) delete(ctx context.Context, id string) error {
	if _, err := t.exec(ctx, `DELETE FROM uploads WHERE id = $1`, id); err != nil {
		return fmt.Errorf("forget upload: %w", err)
	}
	return nil
}

// Forget drops uploads without progress since before, and what is past [RepeatTTL]; the holds sweep their halves
// themselves.
func (t *Sessions) Forget(ctx context.Context, before time.Time) (int64, error) {
	if _, err := t.exec(ctx, `DELETE FROM ended_uploads WHERE ended_at < $1`, t.Now().Add(-RepeatTTL).UnixMicro()); err != nil {
		return 0, fmt.Errorf("forget ended uploads: %w", err)
	}
	n, err := t.exec(ctx, `DELETE FROM uploads WHERE updated_at < $1`, before.UnixMicro())
	if err != nil {
		return 0, fmt.Errorf("forget idle uploads: %w", err)
	}
	return n, nil
}
