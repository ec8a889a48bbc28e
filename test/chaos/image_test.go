package chaos

import (
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"math/rand/v2"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blob is random bytes that are made again when they are needed.
type blob struct {
	seed   uint64
	size   int
	digest digest.Digest
}

func newBlob(rnd *rand.Rand, size int) blob {
	b := blob{seed: rnd.Uint64(), size: size}
	b.digest = digest.FromBytes(b.content())
	return b
}

func (b blob) content() []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], b.seed)
	out := make([]byte, b.size)
	_, _ = rand.NewChaCha8(key).Read(out) // never fails
	return out
}

// layerSize is 1 KiB to 2 MiB, each power of two as likely as another.
func layerSize(rnd *rand.Rand) int {
	least := 1 << (10 + rnd.IntN(11))
	return least + rnd.IntN(least)
}

// image is a manifest, or an index with its children.
type image struct {
	digest    digest.Digest
	raw       []byte
	mediaType string
	config    blob
	layers    []blob
	children  []*image
}

func (i *image) blobs() []blob {
	if len(i.children) > 0 {
		return nil
	}
	return append([]blob{i.config}, i.layers...)
}

// newImage has a configuration of its own and one to three layers, some of them of the given ones.
func newImage(rnd *rand.Rand, known []blob) *image {
	i := &image{mediaType: ocispec.MediaTypeImageManifest, config: newBlob(rnd, 200+bits.Len(uint(rnd.IntN(1<<16))))}
	seen := map[digest.Digest]bool{}
	for range 1 + rnd.IntN(3) {
		var l blob
		if len(known) > 0 && rnd.IntN(3) == 0 {
			l = known[rnd.IntN(len(known))]
		} else {
			l = newBlob(rnd, layerSize(rnd))
		}
		if !seen[l.digest] {
			seen[l.digest] = true
			i.layers = append(i.layers, l)
		}
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: i.mediaType,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: i.config.digest, Size: int64(i.config.size)}}
	for _, l := range i.layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.digest, Size: int64(l.size)})
	}
	return i.seal(m)
}

func newIndex(rnd *rand.Rand, known []blob) *image {
	i := &image{mediaType: ocispec.MediaTypeImageIndex}
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: i.mediaType}
	for _, arch := range []string{"amd64", "arm64"} {
		child := newImage(rnd, known)
		i.children = append(i.children, child)
		x.Manifests = append(x.Manifests, ocispec.Descriptor{MediaType: child.mediaType, Digest: child.digest, Size: int64(len(child.raw)),
			Platform: &ocispec.Platform{OS: "linux", Architecture: arch}})
	}
	return i.seal(x)
}

func (i *image) seal(manifest any) *image {
	i.raw, _ = json.Marshal(manifest) // of plain values
	i.digest = digest.FromBytes(i.raw)
	return i
}
