package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CheckCreatable says whether a file that is not there yet can be made; one that is there is fine. It makes nothing. what
// is the name of its setting.
func CheckCreatable(what, path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // if it cannot be looked at, whoever reads it says why
	}
	if err := CheckWritable(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// CheckWritable says whether files can be made in a directory, or the directory itself in its nearest parent that is
// there. It makes nothing.
func CheckWritable(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at):
			continue
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is not a directory", at)
		}
		if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
			return fmt.Errorf("files cannot be made in %s: %w; run as its owner, or choose another place", at, err)
		}
		return nil
	}
}
