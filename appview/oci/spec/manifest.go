package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
)

// Media types of manifests that we know by name. Others are accepted when they have the fields of one.
const (
	MediaTypeImageManifest  = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeImageIndex     = "application/vnd.oci.image.index.v1+json"
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerSchema1  = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeDockerSigned1  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	mediaTypeEmptyConfig    = "application/vnd.oci.empty.v1+json"
)

// Limits of a manifest. 4 MiB is the size that the OCI spec asks registries to accept.
//
// Descriptors: clients push images of 1,000 layers and more, and attach one referrer to each platform of large indexes, so
// the limit is not what is usual but what a hold's reserveManifest takes in one body. What a push costs is bounded by the
// bytes anyway: a descriptor has at least 110, and blobs are looked up once each, eight at a time.
//
// Annotations have no limit of their own: whoever copies them into a list, or keeps them, sets one (see package index).
const (
	MaxManifestSize = 4 << 20
	maxDepth        = 64
	maxDescriptors  = 10_000
	maxMediaType    = 255
)

// Descriptor is an OCI content descriptor, as far as we look at it.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
}

// Platform is the platform of an index entry.
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// Document is a parsed manifest or index. The bytes it came from stay the truth: they are served as pushed.
type Document struct {
	MediaType     string
	SchemaVersion int
	ArtifactType  string
	Config        *Descriptor
	Layers        []Descriptor
	Manifests     []Descriptor
	Subject       *Descriptor
	Annotations   map[string]string
	IsIndex       bool
}

// Referrer is the artifact type by which the referrers API lists and filters this document: its artifactType, else
// the media type of its config (OCI distribution-spec 1.1, "Listing Referrers").
func (d *Document) Referrer() string {
	if d.ArtifactType != "" || d.Config == nil {
		return d.ArtifactType
	}
	return d.Config.MediaType
}

// Blobs are the descriptors that must be in the hold before the manifest may be pushed: config and layers, without
// non-distributable layers (those that name URLs, or whose media type says so).
func (d *Document) Blobs() []Descriptor {
	var out []Descriptor
	if d.Config != nil {
		out = append(out, *d.Config)
	}
	for _, l := range d.Layers {
		if len(l.URLs) == 0 && !isNonDistributable(l.MediaType) {
			out = append(out, l)
		}
	}
	return out
}

// ParseManifest reads a manifest that was sent with contentType (may be empty). Its errors are sentences for the
// client. It refuses what two readers could understand differently: layers beside manifests, a Content-Type other
// than the mediaType inside, duplicate keys, invalid UTF-8, absurd depth.
func ParseManifest(body []byte, contentType string) (*Document, error) {
	if len(body) > MaxManifestSize {
		return nil, fmt.Errorf("the manifest has more than %d bytes", MaxManifestSize)
	}
	if !utf8.Valid(body) {
		return nil, errors.New("the manifest is not valid UTF-8")
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	var raw struct {
		SchemaVersion int               `json:"schemaVersion"`
		MediaType     string            `json:"mediaType"`
		ArtifactType  string            `json:"artifactType"`
		Config        *Descriptor       `json:"config"`
		Layers        []Descriptor      `json:"layers"`
		Manifests     []Descriptor      `json:"manifests"`
		Subject       *Descriptor       `json:"subject"`
		Annotations   map[string]string `json:"annotations"`
		FSLayers      json.RawMessage   `json:"fsLayers"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, fmt.Errorf("the manifest does not have the fields of one: %s", jsonProblem(err))
	}
	d := &Document{
		MediaType: raw.MediaType, SchemaVersion: raw.SchemaVersion, ArtifactType: raw.ArtifactType, Config: raw.Config,
		Layers: raw.Layers, Manifests: raw.Manifests, Subject: raw.Subject, Annotations: raw.Annotations,
	}
	if raw.SchemaVersion != 2 || raw.FSLayers != nil {
		return nil, errors.New("only manifests of schemaVersion 2 are accepted")
	}
	if err := d.settleType(contentType); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	return d, nil
}

// settleType decides the media type and whether the document is an index.
func (d *Document) settleType(contentType string) error {
	if d.MediaType != "" && contentType != "" && d.MediaType != contentType {
		return fmt.Errorf("the Content-Type is %q but the manifest's mediaType is %q", contentType, d.MediaType)
	}
	if d.MediaType == "" {
		d.MediaType = contentType
	}
	if d.Manifests != nil && (d.Layers != nil || d.Config != nil) {
		return errors.New("the manifest has both manifests and layers or config, so it is neither an image nor an index")
	}
	d.IsIndex = d.Manifests != nil
	switch d.MediaType {
	case "":
		d.MediaType = MediaTypeImageManifest
		if d.IsIndex {
			d.MediaType = MediaTypeImageIndex
		}
	case MediaTypeImageIndex, MediaTypeDockerList:
		if d.Layers != nil || d.Config != nil {
			return fmt.Errorf("a manifest of type %s must not have layers or a config", d.MediaType)
		}
		d.IsIndex = true
	case MediaTypeImageManifest, MediaTypeDockerManifest:
		if d.IsIndex {
			return fmt.Errorf("a manifest of type %s must not have manifests", d.MediaType)
		}
		if d.Config == nil {
			return fmt.Errorf("a manifest of type %s must have a config", d.MediaType)
		}
	case mediaTypeDockerSchema1, mediaTypeDockerSigned1:
		return errors.New("only manifests of schemaVersion 2 are accepted")
	}
	return nil
}

func (d *Document) check() error {
	if !IsManifestType(d.MediaType) {
		return fmt.Errorf("the media type %q is not one of a manifest, such as application/vnd.example+json", truncate(d.MediaType))
	}
	if len(d.Layers) > maxDescriptors || len(d.Manifests) > maxDescriptors {
		return fmt.Errorf("the manifest names more than %d descriptors", maxDescriptors)
	}
	if d.Config != nil {
		if err := d.Config.check("config"); err != nil {
			return err
		}
	}
	if d.Subject != nil {
		if err := d.Subject.check("subject"); err != nil {
			return err
		}
	}
	for i := range d.Layers {
		if err := d.Layers[i].check(fmt.Sprintf("layers[%d]", i)); err != nil {
			return err
		}
	}
	for i := range d.Manifests {
		if err := d.Manifests[i].check(fmt.Sprintf("manifests[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (d *Descriptor) check(where string) error {
	if _, ok := ParseDigest(string(d.Digest)); !ok {
		return fmt.Errorf("%s.digest %q is not a sha256 or sha512 digest", where, truncate(string(d.Digest)))
	}
	if d.Size < 0 || d.Size > math.MaxInt64/4 {
		return fmt.Errorf("%s.size %d is not a size", where, d.Size)
	}
	if d.MediaType != "" && !isMediaType(d.MediaType) {
		return fmt.Errorf("%s.mediaType %q is not a media type", where, truncate(d.MediaType))
	}
	return nil
}

// isMediaType is RFC 6838's shape, loosely: printable ASCII with one slash, no spaces.
func isMediaType(s string) bool {
	if len(s) == 0 || len(s) > maxMediaType {
		return false
	}
	slashes := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '/':
			slashes++
		case c <= ' ' || c >= 0x7f || c == '"' || c == ',' || c == '\\':
			return false
		}
	}
	return slashes == 1 && s[0] != '/' && s[len(s)-1] != '/'
}

// IsManifestType says whether s may be the media type of a manifest: a structured application type. Anything else, such
// as text/html, would make a page or a script on the registry's own origin of bytes that anybody can push.
func IsManifestType(s string) bool {
	rest, ok := strings.CutPrefix(s, "application/")
	return ok && isMediaType(s) && (strings.HasPrefix(rest, "vnd.") && !strings.HasSuffix(rest, "xml") || strings.HasSuffix(rest, "json"))
}

func isNonDistributable(mediaType string) bool {
	const oci = "application/vnd.oci.image.layer.nondistributable."
	return mediaType == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" ||
		len(mediaType) > len(oci) && mediaType[:len(oci)] == oci
}

func truncate(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
