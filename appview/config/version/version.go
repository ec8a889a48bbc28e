// Package version says which release a binary is.
package version

import (
	"runtime"
	"runtime/debug"
)

// Version is set by the linker: -ldflags "-X atcr.io/operator/appview/config/version.Version=v1.2.3".
var Version = "dev"

// String is the version, with the revision that it was built of when the binary knows it, and what built it.
func String() string {
	out := Version
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				out += " (" + s.Value[:min(12, len(s.Value))] + ")"
			}
		}
	}
	return out + ", " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
}
