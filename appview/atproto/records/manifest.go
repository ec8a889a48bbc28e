package records

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
)

// Manifest is io.atcr.manifest. Its record key is the digest's hex: one record per digest and user, whatever the
// repository.
type Manifest struct {
	Repository    string
	Digest        string
	MediaType     string
	SchemaVersion int
	CreatedAt     Time
	HoldDID       syntax.DID // of the hold that has the blobs; read from the deprecated holdEndpoint when need be
	Config        *BlobReference
	Layers        []BlobReference
	Manifests     []ManifestReference // children of an index
	Subject       *BlobReference
	Annotations   map[string]string // best effort; the bytes of the manifest are the truth
	ManifestBlob  *atproto.Blob     // the manifest's exact bytes, on the PDS
	Extra         Extra

	// Lossy says of a record made of a manifest that it leaves out layers, entries or annotations which the lexicon or
	// the data model cannot express. It is not written.
	Lossy bool

	was *original
}

// BlobReference is a descriptor in a manifest record.
type BlobReference struct {
	MediaType   string            `json:"mediaType"`
	Size        int64             `json:"size"`
	Digest      string            `json:"digest"`
	URLs        []string          `json:"urls,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ManifestReference is a child of an index.
type ManifestReference struct {
	MediaType   string            `json:"mediaType"`
	Size        int64             `json:"size"`
	Digest      string            `json:"digest"`
	Platform    *Platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Platform spells osVersion and osFeatures without the dots of OCI.
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	Variant      string   `json:"variant,omitempty"`
	OSVersion    string   `json:"osVersion,omitempty"`
	OSFeatures   []string `json:"osFeatures,omitempty"`
}

type manifestJSON struct {
	Type          string              `json:"$type"`
	Repository    string              `json:"repository"`
	Digest        string              `json:"digest"`
	MediaType     string              `json:"mediaType"`
	SchemaVersion int                 `json:"schemaVersion"`
	CreatedAt     Time                `json:"createdAt"`
	HoldDID       string              `json:"holdDid,omitempty"` // no [syntax.DID], which refuses the whole record when it is none
	HoldEndpoint  string              `json:"holdEndpoint,omitempty"`
	Config        *BlobReference      `json:"config,omitempty"`
	Layers        []BlobReference     `json:"layers,omitempty"`
	Manifests     []ManifestReference `json:"manifests,omitempty"`
	Subject       *BlobReference      `json:"subject,omitempty"`
	Annotations   lenientMap          `json:"annotations,omitempty"`
	ManifestBlob  json.RawMessage     `json:"manifestBlob,omitempty"` // a blob; a bad one must not hide the other fields
}

// lenientMap reads a map whose values are not all strings by leaving those out: the lexicon says "unknown".
type lenientMap map[string]string

func (m *lenientMap) UnmarshalJSON(b []byte) error {
	var in map[string]any
	if json.Unmarshal(b, &in) != nil {
		return nil
	}
	for k, v := range in {
		if s, ok := v.(string); ok {
			if *m == nil {
				*m = lenientMap{}
			}
			(*m)[k] = s
		}
	}
	return nil
}

// MarshalJSON writes the record with its $type.
func (m Manifest) MarshalJSON() ([]byte, error) {
	out := manifestJSON{
		Type: CollectionManifest, Repository: m.Repository, Digest: m.Digest, MediaType: m.MediaType,
		SchemaVersion: m.SchemaVersion, CreatedAt: m.CreatedAt, HoldDID: string(m.HoldDID), Config: m.Config, Layers: m.Layers,
		Manifests: m.Manifests, Subject: m.Subject, Annotations: m.Annotations,
	}
	if m.ManifestBlob != nil {
		var err error
		if out.ManifestBlob, err = json.Marshal(m.ManifestBlob); err != nil {
			return nil, err
		}
	}
	return join(out, m.Extra, m.was)
}

// Keep takes over from an earlier record of the same manifest what this release does not know, and when it was made.
func (m *Manifest) Keep(old *Manifest) {
	m.Extra, m.was = old.Extra, old.was
	if !old.CreatedAt.IsZero() {
		m.CreatedAt = old.CreatedAt
	}
}

// ParseManifest reads a record. It refuses one without a usable digest; whether the bytes hash to it is for the
// reader of the bytes to check.
func ParseManifest(raw []byte) (*Manifest, error) {
	if err := checkType(raw, CollectionManifest); err != nil {
		return nil, err
	}
	in, extra, was, err := split[manifestJSON](raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CollectionManifest, err)
	}
	if _, err := digest.Parse(in.Digest); err != nil {
		return nil, fmt.Errorf("%s: digest %.80q is not a digest", CollectionManifest, in.Digest)
	}
	if in.Repository == "" || in.MediaType == "" {
		return nil, fmt.Errorf("%s: repository and mediaType must be set", CollectionManifest)
	}
	hold := HoldDID(in.HoldDID)
	if hold == "" {
		hold = HoldDID(in.HoldEndpoint)
	}
	m := &Manifest{
		Repository: in.Repository, Digest: in.Digest, MediaType: in.MediaType, SchemaVersion: in.SchemaVersion, CreatedAt: in.CreatedAt,
		HoldDID: hold, Config: in.Config, Layers: in.Layers, Manifests: in.Manifests, Subject: in.Subject,
		Annotations: in.Annotations, Extra: extra, was: was,
	}
	var blob atproto.Blob
	if json.Unmarshal(in.ManifestBlob, &blob) == nil && blob.CID != "" {
		blob.Size = max(blob.Size, 0)
		m.ManifestBlob = &blob
	}
	return m, nil
}

// ManifestRKey is the record key of a manifest: the hex of its digest. Algorithms differ by its length.
func ManifestRKey(d digest.Digest) string { return d.Encoded() }

// ManifestURI is the AT URI of a manifest record.
func ManifestURI(did syntax.DID, d digest.Digest) string {
	return "at://" + string(did) + "/" + CollectionManifest + "/" + ManifestRKey(d)
}

// DigestOfURI reads the digest back out of a manifest record's URI, and the DID whose repository it is in.
func DigestOfURI(uri string) (syntax.DID, digest.Digest, error) {
	u, err := syntax.ParseATURI(uri)
	if err != nil || u.Collection().String() != CollectionManifest {
		return "", "", fmt.Errorf("%.120q is not the URI of a manifest record", uri)
	}
	did, err := u.Authority().AsDID()
	if err != nil {
		return "", "", fmt.Errorf("%.120q does not name a DID", uri)
	}
	d, err := DigestOfRKey(u.RecordKey().String())
	return did, d, err
}

// DigestOfRKey reads a manifest's record key.
func DigestOfRKey(rkey string) (digest.Digest, error) {
	algorithm := digest.SHA256
	if len(rkey) == digest.SHA512.Size()*2 {
		algorithm = digest.SHA512
	}
	d := digest.NewDigestFromEncoded(algorithm, strings.ToLower(rkey))
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("record key %.130q is not the hex of a digest", rkey)
	}
	return d, nil
}
