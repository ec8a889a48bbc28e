package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// epoch is the time of every file and image, so that the same input gives the same digest.
var epoch = time.Unix(0, 0).UTC()

// assemble builds the image of one platform: a layer with folders, users and CA certificates, a layer with the binary.
func assemble(s spec, binary []byte, certificates []byte, arch, version string) (v1.Image, error) {
	base, err := baseLayer(s, certificates)
	if err != nil {
		return nil, fmt.Errorf("base layer of %s: %w", s.Name, err)
	}
	program, err := layer([]entry{{name: s.Name, mode: 0o755, content: binary}})
	if err != nil {
		return nil, fmt.Errorf("program layer of %s: %w", s.Name, err)
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: base, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "folders, users, CA certificates"}},
		mutate.Addendum{Layer: program, History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "go build " + s.Package}},
	)
	if err != nil {
		return nil, fmt.Errorf("layers of %s: %w", s.Name, err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("config of %s: %w", s.Name, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: epoch}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + s.Name},
		User:       fmt.Sprintf("%d:%d", nonRoot, nonRoot),
		Env:        []string{"PATH=/", "HOME=/tmp"},
		WorkingDir: "/",
		Labels: map[string]string{
			imagespec.AnnotationTitle:       s.Title,
			imagespec.AnnotationDescription: s.About,
			imagespec.AnnotationVersion:     version,
			imagespec.AnnotationSource:      "https://atcr.io/operator",
		},
	}
	return mutate.ConfigFile(image, config)
}

// entry is one file, or a folder when its name ends in a slash.
type entry struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

// baseLayer holds all but the program.
func baseLayer(s spec, certificates []byte) (v1.Layer, error) {
	entries := []entry{
		{name: "tmp/", mode: 0o1777},
		{name: "etc/passwd", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:0:root:/:/\nnonroot:x:%[1]d:%[1]d:nonroot:/tmp:/\n", nonRoot)},
		{name: "etc/group", mode: 0o644, content: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", nonRoot)},
	}
	if len(certificates) > 0 {
		entries = append(entries, entry{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: certificates})
	}
	for _, folder := range s.Data {
		entries = append(entries, entry{name: folder + "/", mode: 0o750, owner: nonRoot})
	}
	return layer(entries)
}

// layer writes the entries, and the folders above them, as a gzip-compressed tar in a fixed order.
func layer(entries []entry) (v1.Layer, error) {
	entries = withParents(entries)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		header := &tar.Header{
			Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.content)),
			ModTime: epoch, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
		}
		if strings.HasSuffix(e.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("write %s: %w", e.name, err)
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, fmt.Errorf("write %s: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end of layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// withParents adds the missing folders and sorts by name, so that a folder comes before what is in it.
func withParents(entries []entry) []entry {
	known := map[string]bool{}
	for _, e := range entries {
		known[e.name] = true
	}
	all := slices.Clone(entries)
	for _, e := range entries {
		for folder := path.Dir(strings.TrimSuffix(e.name, "/")); folder != "."; folder = path.Dir(folder) {
			if name := folder + "/"; !known[name] {
				known[name] = true
				all = append(all, entry{name: name, mode: 0o755})
			}
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all
}
