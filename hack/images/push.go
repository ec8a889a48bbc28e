package main

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// push writes an image, or an index of several, to its registry, and the bill of materials of each platform as a referrer
// of that platform's image. Credentials are those that docker or podman login stored.
func push(ctx context.Context, reference string, content mutate.Appendable, images map[string]v1.Image, boms map[string][]byte) error {
	tag, err := name.NewTag(reference, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("where to push to: %w", err)
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	switch content := content.(type) {
	case v1.Image:
		err = remote.Write(tag, content, options...)
	case v1.ImageIndex:
		err = remote.WriteIndex(tag, content, options...)
	}
	if err != nil {
		return fmt.Errorf("push %s: %w", reference, err)
	}
	for arch, image := range images {
		referrer, err := attachment(image, boms[arch])
		if err != nil {
			return fmt.Errorf("bill of materials of %s for %s: %w", reference, arch, err)
		}
		digest, err := referrer.Digest()
		if err != nil {
			return err
		}
		if err := remote.Write(tag.Digest(digest.String()), referrer, options...); err != nil {
			return fmt.Errorf("push the bill of materials of %s for %s: %w", reference, arch, err)
		}
	}
	return nil
}

// attachment is a manifest that refers to an image and holds its bill of materials (image-spec, subject).
func attachment(image v1.Image, bom []byte) (v1.Image, error) {
	subject, err := partial.Descriptor(image)
	if err != nil {
		return nil, err
	}
	out := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	out = mutate.ConfigMediaType(out, mediaTypeSPDX) // without artifactType, the config's type is the artifact's
	out, err = mutate.AppendLayers(out, static.NewLayer(bom, mediaTypeSPDX))
	if err != nil {
		return nil, err
	}
	return mutate.Subject(out, v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}).(v1.Image), nil
}
