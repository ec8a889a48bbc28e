package sqlitedb

import (
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"
)

// OpenUnchanged opens a database to look into it: nothing is made, changed or removed, neither by reading nor by closing. A
// server may be using it, or have been killed. A log without its index, which only copies of files can have, is left out.
func OpenUnchanged(path string) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "query_only(1)"}, "mode": {"ro"}}
	logged, err := exist(path+"-wal", path+"-shm")
	if err != nil {
		return nil, err
	}
	if logged {
		q.Set("readonly_shm", "1") // else an index of which nobody has a lock is made anew, and the log is copied back
	} else {
		q.Set("immutable", "1") // else both files are made
	}
	return Open(Source(path, q))
}

func exist(paths ...string) (bool, error) {
	for _, p := range paths {
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, nil
}
