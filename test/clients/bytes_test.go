package clients

import (
	"bytes"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/stretchr/testify/require"
)

// content reads a layer as it is stored.
func content(layer v1.Layer) func() ([]byte, error) {
	return func() ([]byte, error) {
		r, err := layer.Compressed()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
}

func requireSame(t *testing.T, want, got func() ([]byte, error)) {
	t.Helper()
	a, err := want()
	require.NoError(t, err)
	b, err := got()
	require.NoError(t, err)
	require.True(t, bytes.Equal(a, b), "%d bytes were pushed, %d other bytes came back", len(a), len(b))
}
