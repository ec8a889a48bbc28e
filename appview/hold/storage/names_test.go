package storage

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

func TestUploadIDsAreValidAndUnique(t *testing.T) {
	a, b := NewUploadID(), NewUploadID()
	require.NotEqual(t, a, b)
	require.True(t, ValidUploadID(a))
	for _, bad := range []string{"", "x", a + "a", a[1:], "../" + a[3:], strings.ToUpper(a), a[:31] + "/", a[:31] + "8"} {
		require.False(t, ValidUploadID(bad), bad)
	}
}

func TestBlobKeysHaveTheLayoutOfTheContract(t *testing.T) {
	d := digest.FromString("hello")
	require.Equal(t, "blobs/sha256/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824/data", BlobKey(d))
	require.True(t, strings.HasPrefix(BlobKey(digest.SHA512.FromString("hello")), "blobs/sha512/9b/9b71d224bd62f378"))
}

func TestETagsCompareWithoutQuotes(t *testing.T) {
	require.True(t, SameETag("", `"x"`))
	require.True(t, SameETag("x", `"x"`))
	require.True(t, SameETag(`"x"`, "x"))
	require.False(t, SameETag("y", `"x"`))
}

func FuzzParseDigest(f *testing.F) {
	for _, s := range []string{
		"", "sha256:", "sha256:" + strings.Repeat("a", 64), "sha512:" + strings.Repeat("0", 128),
		"sha256:" + strings.Repeat("A", 64), "sha384:" + strings.Repeat("a", 96), "sha256:../../etc/passwd", "md5:x",
		strings.Repeat("sha256:", 1000),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		if err != nil {
			return
		}
		if d.String() != s || strings.Contains(BlobKey(d), "..") || strings.Count(BlobKey(d), "/") != 4 {
			t.Fatalf("accepted %q", s)
		}
	})
}
