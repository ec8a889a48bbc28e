package files

import "os"

// ReadableByAll says whether everybody on the machine may read a file: a key should not be. Group is fine: that is how
// Kubernetes gives a Secret to a container that is not root.
func ReadableByAll(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o004 != 0
}
