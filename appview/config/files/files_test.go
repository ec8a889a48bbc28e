package files_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/files"
)

func TestTheFirstContentOfAFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "dir", "key")
	require.NoError(t, files.CreateOnce(path, []byte("first"), 0o600))
	require.NoError(t, files.CreateOnce(path, []byte("second"), 0o600))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "first", string(b))
}

func TestAKeyThatEverybodyMayReadIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, files.CreateOnce(path, []byte("k"), 0o600))
	require.False(t, files.ReadableByAll(path), "as we make them")
	require.NoError(t, os.Chmod(path, 0o440))
	require.False(t, files.ReadableByAll(path), "as a kubelet mounts them")
	require.NoError(t, os.Chmod(path, 0o644))
	require.True(t, files.ReadableByAll(path))
	require.False(t, files.ReadableByAll(path+"-absent"))
}

func TestADirectoryThatCannotBeNotifiedOfIsPolled(t *testing.T) {
	w := files.NewWatcher(10*time.Millisecond, slog.New(slog.DiscardHandler))
	var n atomic.Int32
	w.Add(filepath.Join(t.TempDir(), "appears later"), func() { n.Add(1) })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	require.Eventually(t, func() bool { return n.Load() > 2 }, time.Minute, time.Millisecond)
	cancel()
	<-done
}
