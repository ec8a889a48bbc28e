// Command images builds the repository's container images without docker: static binaries on nothing (FROM scratch),
// written as OCI archives that containerd (ctr, kind), skopeo and podman take.
//
//	go run ./hack/images                      # the product: operator, AppView, hold, development world
//	go run ./hack/images node demo            # what the local cluster and the demo need besides
//	go run ./hack/images --arch amd64,arm64   # one index for both
//	go run ./hack/images --registry registry.example.com/alice.example.com --push
//
// The same sources, version and Go toolchain give the same digests, on any machine. Beside each archive is a bill of
// materials for each platform (SPDX), and a push attaches it as a referrer. catalog.go lists the images.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
)

// options are the command line.
type options struct {
	root     string // of the checkout
	out      string
	version  string
	registry string
	arches   []string
	push     bool
}

// maxCompressed is what one platform of an image may weigh; a larger one is a mistake, such as a fat dependency.
const maxCompressed = 40_000_000

// tagForm is what OCI allows as a tag.
var tagForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

func command() *cobra.Command {
	version := os.Getenv("VERSION")
	if version == "" {
		version = "dev"
	}
	var o options
	c := &cobra.Command{
		Use:          "images [NAME|GROUP]...",
		Short:        "Build OCI archives of this repository's images, without docker",
		Long:         "Build OCI archives of this repository's images, without docker.\n\nNames and groups: " + strings.Join(names(), ", ") + ".\nWithout arguments: product.",
		SilenceUsage: true,
		RunE: func(c *cobra.Command, args []string) error {
			chosen, err := choose(args)
			if err != nil {
				return err
			}
			if !tagForm.MatchString(o.version) {
				return fmt.Errorf("version %q is no OCI tag: letters, digits, '.', '_' and '-', at most 128", o.version)
			}
			for _, s := range chosen {
				if err := o.build(c.Context(), s); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.root, "root", ".", "root of the checkout")
	c.Flags().StringVar(&o.out, "out", "dist", "folder for images/NAME.oci.tar and bin/ARCH/NAME")
	c.Flags().StringVar(&o.version, "version", version, "version that binaries, labels and tags carry (environment VERSION)")
	c.Flags().StringVar(&o.registry, "registry", "atcr.local", "what image names begin with: a host, and the path before the image's own name")
	c.Flags().BoolVar(&o.push, "push", false, "push to that registry too, with the credentials that docker login or podman login stored")
	c.Flags().StringSliceVar(&o.arches, "arch", []string{runtime.GOARCH}, "architectures; several make an index")
	return c
}

// build compiles and writes one image, and prints its reference, digest, compressed size and file.
func (o options) build(ctx context.Context, s spec) error {
	begin := time.Now()
	certificates, err := rootCertificates()
	if err != nil {
		return err
	}
	folder := filepath.Join(o.out, "images")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("folder for archives: %w", err)
	}
	images, boms := map[string]v1.Image{}, map[string][]byte{}
	var size int64
	for _, arch := range o.arches {
		path, err := compile(ctx, o.root, filepath.Join(o.out, "bin"), s, arch, o.version)
		if err != nil {
			return err
		}
		binary, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read the binary of %s: %w", s.Name, err)
		}
		if boms[arch], err = billOfMaterials(s, path, arch, o.version); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, s.Name+"."+arch+".spdx.json"), boms[arch], 0o644); err != nil {
			return fmt.Errorf("bill of materials of %s: %w", s.Name, err)
		}
		image, err := assemble(s, binary, certificates, arch, o.version)
		if err != nil {
			return err
		}
		images[arch] = image
		if size, err = compressedSize(image); err != nil {
			return err
		}
		if size > maxCompressed {
			return fmt.Errorf("%s for %s has %.1f MB compressed, more than %d", s.Name, arch, float64(size)/1e6, maxCompressed/1_000_000)
		}
	}
	reference := o.registry + "/" + s.Name + ":" + o.version
	file := filepath.Join(folder, s.Name+".oci.tar")
	content := combine(images, o.arches)
	if err := writeArchive(file, reference, content); err != nil {
		return err
	}
	digest, err := content.Digest()
	if err != nil {
		return fmt.Errorf("digest of %s: %w", s.Name, err)
	}
	if o.push {
		if err := push(ctx, reference, content, images, boms); err != nil {
			return err
		}
	}
	fmt.Printf("%-40s %s  %5.1f MB  %4.1fs  %s\n", reference, digest, float64(size)/1e6, time.Since(begin).Seconds(), file)
	return nil
}

// compressedSize is what a pull transfers: the layers of one platform.
func compressedSize(image v1.Image) (int64, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return 0, fmt.Errorf("manifest: %w", err)
	}
	var total int64
	for _, l := range manifest.Layers {
		total += l.Size
	}
	return total, nil
}
