package records

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
)

// Pushed is what [NewManifest] makes a record of.
type Pushed struct {
	Repository string
	Digest     digest.Digest
	MediaType  string
	HoldDID    string
	Raw        []byte // the manifest, already validated
	Blob       atproto.Blob
	Now        time.Time
}

// NewManifest makes the record of a pushed manifest. Annotations that a PDS would read as something else than a
// map of strings (keys such as $type or $link) stay out of the record: they are in the manifest's bytes anyway.
func NewManifest(p Pushed) (*Manifest, error) {
	var in struct {
		SchemaVersion int             `json:"schemaVersion"`
		Config        *ociDescriptor  `json:"config"`
		Layers        []ociDescriptor `json:"layers"`
		Manifests     []ociDescriptor `json:"manifests"`
		Subject       *ociDescriptor  `json:"subject"`
		Annotations   lenientMap      `json:"annotations"`
	}
	if err := json.Unmarshal(p.Raw, &in); err != nil {
		return nil, fmt.Errorf("making a record of manifest %s: not JSON of the expected shape", p.Digest)
	}
	blob := p.Blob
	m := &Manifest{
		Repository: p.Repository, Digest: p.Digest.String(), MediaType: p.MediaType, SchemaVersion: in.SchemaVersion,
		CreatedAt: Time{p.Now}, HoldDID: p.HoldDID, Annotations: safe(in.Annotations), ManifestBlob: &blob,
	}
	if in.Config != nil {
		m.Config = in.Config.reference()
	}
	if in.Subject != nil {
		m.Subject = in.Subject.reference()
	}
	for _, l := range in.Layers {
		m.Layers = append(m.Layers, *l.reference())
	}
	for _, c := range in.Manifests {
		m.Manifests = append(m.Manifests, c.child())
	}
	return m, nil
}

type ociDescriptor struct {
	MediaType   string     `json:"mediaType"`
	Size        int64      `json:"size"`
	Digest      string     `json:"digest"`
	URLs        []string   `json:"urls"`
	Annotations lenientMap `json:"annotations"`
	Platform    *struct {
		Architecture string   `json:"architecture"`
		OS           string   `json:"os"`
		Variant      string   `json:"variant"`
		OSVersion    string   `json:"os.version"`
		OSFeatures   []string `json:"os.features"`
	} `json:"platform"`
}

func (d ociDescriptor) reference() *BlobReference {
	return &BlobReference{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest, URLs: d.URLs, Annotations: safe(d.Annotations)}
}

func (d ociDescriptor) child() ManifestReference {
	c := ManifestReference{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest, Annotations: safe(d.Annotations)}
	// The lexicon requires both; half a platform would make the record invalid.
	if p := d.Platform; p != nil && p.Architecture != "" && p.OS != "" {
		c.Platform = &Platform{p.Architecture, p.OS, p.Variant, p.OSVersion, p.OSFeatures}
	}
	return c
}

// safe drops a whole map when one of its keys means something in the atproto data model.
func safe(m lenientMap) map[string]string {
	for k := range m {
		if strings.HasPrefix(k, "$") || k == "" {
			return nil
		}
	}
	return m
}
