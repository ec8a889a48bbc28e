package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// versionVariables are the strings that the linker sets to the version; naming one that a binary lacks is harmless.
var versionVariables = []string{
	"atcr.io/operator/appview/config/version.Version",
	"atcr.io/operator/controllers/version.Version",
	"main.version",
}

// compile builds the image's static binary for linux/arch below binDir and returns its path. A binary that is up to
// date is left alone by the go command.
func compile(ctx context.Context, root, binDir string, s spec, arch, version string) (string, error) {
	binary, err := filepath.Abs(filepath.Join(binDir, arch, s.Name))
	if err != nil {
		return "", fmt.Errorf("path of %s: %w", s.Name, err)
	}
	flags := []string{"-s", "-w"}
	for _, variable := range versionVariables {
		flags = append(flags, "-X", variable+"="+version)
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", strings.Join(flags, " "), "-o", binary, s.Package)
	command.Dir = filepath.Join(root, s.Module)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOWORK=off")
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("go build %s for linux/%s: %w", s.Package, arch, err)
	}
	return binary, nil
}
