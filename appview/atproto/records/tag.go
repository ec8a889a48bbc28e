package records

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"
)

// Tag is io.atcr.tag. Readers go by the fields: the record key's rule was never published.
type Tag struct {
	Repository string
	Tag        string
	Digest     digest.Digest // of the manifest; from the manifest URI, else the deprecated manifestDigest
	MediaType  string        // of the manifest; empty in old records
	UpdatedAt  time.Time     // updatedAt, else createdAt
	CreatedAt  time.Time
	DID        syntax.DID // owner of the manifest record; needed to write
	Extra      Extra

	was *original
}

type tagJSON struct {
	Type           string `json:"$type"`
	Repository     string `json:"repository"`
	Tag            string `json:"tag"`
	Manifest       string `json:"manifest,omitempty"`
	ManifestDigest string `json:"manifestDigest,omitempty"`
	MediaType      string `json:"mediaType,omitempty"`
	UpdatedAt      *Time  `json:"updatedAt,omitempty"`
	CreatedAt      *Time  `json:"createdAt,omitempty"`
}

// MarshalJSON writes the new pointer and date, and the old ones for old readers.
func (t Tag) MarshalJSON() ([]byte, error) {
	created := t.CreatedAt
	if created.IsZero() {
		created = t.UpdatedAt
	}
	return join(tagJSON{
		Type: CollectionTag, Repository: t.Repository, Tag: t.Tag, Manifest: ManifestURI(t.DID, t.Digest),
		ManifestDigest: t.Digest.String(), MediaType: t.MediaType, UpdatedAt: &Time{t.UpdatedAt}, CreatedAt: &Time{created},
	}, t.Extra, t.was)
}

// Keep takes over from an earlier record of the same tag what this release does not know, and when it was made.
func (t *Tag) Keep(old *Tag) {
	t.Extra, t.was = old.Extra, old.was
	if !old.CreatedAt.IsZero() {
		t.CreatedAt = old.CreatedAt
	}
}

// ParseTag reads a record of the repository of did. A manifest URI into somebody else's repository is refused: a
// tag never reaches across identities.
func ParseTag(did syntax.DID, raw []byte) (*Tag, error) {
	if err := checkType(raw, CollectionTag); err != nil {
		return nil, err
	}
	in, extra, was, err := split[tagJSON](raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CollectionTag, err)
	}
	if in.Repository == "" || in.Tag == "" {
		return nil, fmt.Errorf("%s: repository and tag must be set", CollectionTag)
	}
	t := &Tag{Repository: in.Repository, Tag: in.Tag, MediaType: in.MediaType, DID: did, Extra: extra, was: was}
	if in.CreatedAt != nil {
		t.CreatedAt, t.UpdatedAt = in.CreatedAt.Time, in.CreatedAt.Time
	}
	if in.UpdatedAt != nil && !in.UpdatedAt.IsZero() {
		t.UpdatedAt = in.UpdatedAt.Time
	}
	if in.Manifest != "" {
		owner, d, err := DigestOfURI(in.Manifest)
		if err == nil && owner != did {
			return nil, fmt.Errorf("%s: the manifest is in the repository of %s", CollectionTag, owner)
		}
		if err == nil {
			t.Digest = d
			return t, nil
		}
	}
	d, err := digest.Parse(in.ManifestDigest)
	if err != nil {
		return nil, fmt.Errorf("%s: names no manifest", CollectionTag)
	}
	t.Digest = d
	return t, nil
}

// NewTagRKey is the key for a tag that has no record yet: repository and tag readable when they fit into a record
// key, with "/" (which keys forbid) as "~" (which names forbid), else a hash of them.
func NewTagRKey(repository, tag string) string {
	key := strings.ReplaceAll(repository, "/", "~") + ":" + tag
	if _, err := syntax.ParseRecordKey(key); err == nil {
		return key
	}
	return SpareTagRKey(repository, tag)
}

// SpareTagRKey is the key for a tag whose usual key is too long, or taken by the record of another tag.
func SpareTagRKey(repository, tag string) string {
	sum := sha256.Sum256([]byte(repository + "\x00" + tag))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// Newer says whether a wins over b when two records are about the same tag: the later date, then the greater key.
func Newer(a, b *Tag, aKey, bKey string) bool {
	if !a.UpdatedAt.Equal(b.UpdatedAt) {
		return a.UpdatedAt.After(b.UpdatedAt)
	}
	return aKey > bKey
}
