package storage

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// uploadIDLen is the length of 20 random bytes in base32.
const uploadIDLen = 32

// NewUploadID makes an unguessable upload id, safe as a file name and in a URL path.
func NewUploadID() string {
	b := make([]byte, 20)
	_, _ = rand.Read(b) // never fails, see its documentation
	return idEncoding.EncodeToString(b)
}

// ValidUploadID says whether NewUploadID could have made the id.
func ValidUploadID(id string) bool {
	if len(id) != uploadIDLen {
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '2' || r > '7')
	})
}

// Algorithms are the digest algorithms of the drivers.
var Algorithms = []digest.Algorithm{digest.SHA256, digest.SHA512}

// ParseDigest accepts a well-formed digest of one of [Algorithms].
func ParseDigest(s string) (digest.Digest, error) {
	d := digest.Digest(s)
	alg, _, ok := strings.Cut(s, ":")
	if !ok || !slices.Contains(Algorithms, digest.Algorithm(alg)) {
		return "", fmt.Errorf("digest %.140q: want sha256:<64 hex digits> or sha512:<128 hex digits>", s)
	}
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %.140q: %w", s, err)
	}
	return d, nil
}

// BlobKey is where a driver keeps a blob, below its root.
func BlobKey(d digest.Digest) string {
	hex := d.Encoded()
	return path.Join("blobs", d.Algorithm().String(), hex[:2], hex, "data")
}

// ParseBlobKey is the digest of a blob from its key.
func ParseBlobKey(key string) (digest.Digest, bool) {
	part := strings.Split(key, "/")
	if len(part) != 5 {
		return "", false
	}
	d, err := ParseDigest(part[1] + ":" + part[3])
	return d, err == nil && BlobKey(d) == key
}

// ParsePartKey is the id of the upload that a key is below.
func ParsePartKey(key string) (id string, ok bool) {
	id, ok = strings.CutPrefix(key, "uploads/")
	id, _, _ = strings.Cut(id, "/")
	return id, ok && ValidUploadID(id)
}

// UploadKey is the folder of an upload's parts, below the driver's root.
func UploadKey(id string) string { return path.Join("uploads", id) }

// PartKey is where a driver keeps a part, below its root.
func PartKey(id string, n int) string { return path.Join("uploads", id, strconv.Itoa(n)) }

// SameETag compares an ETag that a client names with the stored one; quotes do not count, an empty one matches any.
func SameETag(named, stored string) bool {
	return named == "" || strings.Trim(named, `"`) == strings.Trim(stored, `"`)
}
