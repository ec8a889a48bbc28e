package filesystem

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriting has the disk begin to write bytes of a file, and does not wait for it. What comes of it the file's Sync says.
func beginWriting(f *os.File, from, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}
