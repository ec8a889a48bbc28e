// Package version says which release a binary is.
package version

// Version is set by the linker: -ldflags "-X atcr.io/operator/appview/config/version.Version=v1.2.3".
var Version = "dev"
