package spec

import (
	_ "crypto/sha256" // registers the algorithms that go-digest offers
	_ "crypto/sha512"
	"strings"

	"github.com/opencontainers/go-digest"
)

// ParseDigest reads a digest of an algorithm that we serve: sha256 or sha512, lower-case hex.
func ParseDigest(s string) (digest.Digest, bool) {
	alg, hex, ok := strings.Cut(s, ":")
	if !ok {
		return "", false
	}
	switch digest.Algorithm(alg) {
	case digest.SHA256:
		ok = len(hex) == 64
	case digest.SHA512:
		ok = len(hex) == 128
	default:
		return "", false
	}
	if !ok {
		return "", false
	}
	for i := range len(hex) {
		if c := hex[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return digest.Digest(s), true
}

// ParseAlgorithm reads the name of a digest algorithm that we serve; empty means the default, sha256.
func ParseAlgorithm(s string) (digest.Algorithm, bool) {
	switch a := digest.Algorithm(s); a {
	case "":
		return digest.SHA256, true
	case digest.SHA256, digest.SHA512:
		return a, true
	}
	return "", false
}

// LooksLikeDigest says whether a reference was meant as a digest: tags never hold a colon.
func LooksLikeDigest(ref string) bool { return strings.Contains(ref, ":") }
