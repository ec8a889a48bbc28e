package sqlitedb

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// header begins every SQLite file that is not empty.
const header = "SQLite format 3\x00"

// Written says whether a file has a database in it that can be opened for writing: false when it is not there, or empty
// as a start leaves it that was cut off. A file with anything else in it is an error. Nothing is made.
func Written(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	found := make([]byte, len(header))
	n, err := io.ReadFull(f, found)
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		return false, nil
	case string(found) != header:
		return false, fmt.Errorf("%s is no SQLite database; name another file, or restore a backup", path)
	}
	return true, nil
}
