package records

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
)

// Pushed is what [NewManifest] makes a record of.
type Pushed struct {
	Repository string
	Digest     digest.Digest
	MediaType  string
	HoldDID    syntax.DID
	Raw        []byte // the manifest, already validated
	Blob       atproto.Blob
	Now        time.Time
}

// Limits of the lexicon, in bytes, and of numbers in JSON that JavaScript reads.
const (
	maxMediaType = 128
	maxPlatform  = 32
	maxOSDetail  = 64
	maxInteger   = 1<<53 - 1
)

// NewManifest makes the record of a pushed manifest. What the lexicon or the data model cannot express stays out of the
// record, since it is in the manifest's bytes anyway: annotations with keys that a PDS would read as something else
// ($type, $link, $bytes), lists with an entry whose media type is too long, half a platform, URLs that are none.
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
	m.Lossy = len(in.Annotations) > len(m.Annotations)
	if in.Config != nil {
		m.Config = fit(&m.Lossy, in.Config, ociDescriptor.reference)
	}
	if in.Subject != nil {
		m.Subject = fit(&m.Lossy, in.Subject, ociDescriptor.reference)
	}
	m.Layers = fitAll(&m.Lossy, in.Layers, ociDescriptor.reference)
	m.Manifests = fitAll(&m.Lossy, in.Manifests, ociDescriptor.child)
	return m, nil
}

// fit converts a descriptor that the lexicon can express; of any other, the record is lossy.
func fit[T any](lossy *bool, d *ociDescriptor, convert func(ociDescriptor) T) *T {
	if len(d.MediaType) > maxMediaType || d.Size > maxInteger {
		*lossy = true
		return nil
	}
	out := convert(*d)
	return &out
}

// fitAll converts a whole list or nothing: half of one would be read as all of it.
func fitAll[T any](lossy *bool, list []ociDescriptor, convert func(ociDescriptor) T) []T {
	var out []T
	for i := range list {
		item := fit(lossy, &list[i], convert)
		if item == nil {
			return nil
		}
		out = append(out, *item)
	}
	return out
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

func (d ociDescriptor) reference() BlobReference {
	r := BlobReference{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest, Annotations: safe(d.Annotations)}
	for _, u := range d.URLs {
		if _, err := syntax.ParseURI(u); err == nil {
			r.URLs = append(r.URLs, u)
		}
	}
	return r
}

func (d ociDescriptor) child() ManifestReference {
	c := ManifestReference{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest, Annotations: safe(d.Annotations)}
	// The lexicon requires both; half a platform would make the record invalid.
	p := d.Platform
	if p == nil || p.Architecture == "" || p.OS == "" || len(p.Architecture) > maxPlatform || len(p.OS) > maxPlatform ||
		len(p.Variant) > maxPlatform || len(p.OSVersion) > maxOSDetail {
		return c
	}
	c.Platform = &Platform{Architecture: p.Architecture, OS: p.OS, Variant: p.Variant, OSVersion: p.OSVersion}
	for _, f := range p.OSFeatures {
		if len(f) <= maxOSDetail {
			c.Platform.OSFeatures = append(c.Platform.OSFeatures, f)
		}
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
