package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations by which importers name an image in an OCI layout: containerd (ctr, kind) reads the first, skopeo and
// podman the second.
const (
	containerdName = "io.containerd.image.name"
	ociRefName     = "org.opencontainers.image.ref.name"
)

// combine makes what the archive holds: the image itself, or an index when it was built for several platforms.
func combine(images map[string]v1.Image, arches []string) mutate.Appendable {
	if len(arches) == 1 {
		return images[arches[0]]
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range arches {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        images[arch],
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index
}

// writeArchive writes an OCI layout as one tar file that names the image. The file appears whole or not at all.
func writeArchive(file, reference string, content mutate.Appendable) (err error) {
	scratch, err := os.MkdirTemp(filepath.Dir(file), ".layout-")
	if err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	target, err := layout.Write(filepath.Join(scratch, "oci"), mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	if err != nil {
		return fmt.Errorf("new layout: %w", err)
	}
	named := layout.WithAnnotations(map[string]string{containerdName: reference, ociRefName: reference})
	switch content := content.(type) {
	case v1.Image:
		err = target.AppendImage(content, named)
	case v1.ImageIndex:
		err = target.AppendIndex(content, named)
	}
	if err != nil {
		return fmt.Errorf("layout of %s: %w", reference, err)
	}
	partial := filepath.Join(scratch, "archive.tar")
	if err := tarFolder(partial, filepath.Join(scratch, "oci")); err != nil {
		return fmt.Errorf("archive of %s: %w", reference, err)
	}
	return os.Rename(partial, file)
}

// tarFolder writes the regular files below folder to a tar file, in name order and with fixed times.
func tarFolder(file, folder string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: int64(len(content)), ModTime: epoch, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}
