package seal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsSealedOpensWithTheSameKeyPurposeAndContextOnly(t *testing.T) {
	k, file := Generate()
	again, err := Parse(file)
	require.NoError(t, err)
	sealed := k.Box("a").Seal([]byte("hello"), "row 1")
	require.NotContains(t, string(sealed), "hello")
	plain, err := again.Box("a").Open(sealed, "row 1")
	require.NoError(t, err)
	require.Equal(t, "hello", string(plain))

	other, _ := Generate()
	for name, open := range map[string]func() ([]byte, error){
		"another context": func() ([]byte, error) { return k.Box("a").Open(sealed, "row 2") },
		"another purpose": func() ([]byte, error) { return k.Box("b").Open(sealed, "row 1") },
		"another key":     func() ([]byte, error) { return other.Box("a").Open(sealed, "row 1") },
		"a changed byte": func() ([]byte, error) {
			c := append([]byte(nil), sealed...)
			c[len(c)-1] ^= 1
			return k.Box("a").Open(c, "row 1")
		},
		"too short": func() ([]byte, error) { return k.Box("a").Open(sealed[:5], "row 1") },
	} {
		_, err := open()
		require.ErrorIs(t, err, ErrOpen, name)
	}
}

func TestAKeyFileIsBase64Of32Bytes(t *testing.T) {
	for _, bad := range []string{"", "short", "AAAA", "not base64 at all!"} {
		_, err := Parse([]byte(bad))
		require.Error(t, err)
	}
}
