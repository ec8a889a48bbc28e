//go:build !linux

package filesystem

import "os"

func beginWriting(*os.File, int64, int64) {}
