package store

import (
	"testing"
	"time"
)

// SetLockWait sets how long a server waits for another to let go of the file.
func SetLockWait(t *testing.T, d time.Duration) {
	old := lockWait
	lockWait = d
	t.Cleanup(func() { lockWait = old })
}
