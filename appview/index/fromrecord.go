package index

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto"
	"atcr.io/operator/appview/atproto/records"
	"atcr.io/operator/appview/oci/spec"
)

// Fields that we add to io.atcr.manifest records. Lexicons are open: other readers skip them.
const (
	extraRepositories = "repositories" // every repository that the manifest was pushed to; the lexicon's "repository" has the last
	extraTrimmed      = "trimmed"      // true: layers, manifests or annotations are in manifestBlob only
	extraArtifactType = "artifactType" // what the referrers API lists, which the lexicon has no field for
)

// manifestOf reads a record into a mirror row.
func manifestOf(did syntax.DID, r atproto.Record) (*Manifest, error) {
	rec, err := records.ParseManifest(r.Value)
	if err != nil {
		return nil, err
	}
	d, ok := spec.ParseDigest(rec.Digest)
	if !ok {
		return nil, fmt.Errorf("digest %.80q is neither sha256 nor sha512", rec.Digest)
	}
	m := rowOf(did, d, rec)
	m.RKey, m.CID = r.URI.RecordKey().String(), r.CID
	for _, s := range []string{m.RKey, m.CID, m.Repository, m.MediaType, m.BlobCID} {
		if len(s) > maxText {
			return nil, fmt.Errorf("%.80q has more than %d bytes", s, maxText)
		}
	}
	return m, nil
}

// maxText bounds each name, key, CID and media type of a row, which stays in memory. Real ones are shorter than half of it.
const maxText = 512

// typeOf is an artifact type as lists of referrers show it: none, when it is longer than any media type.
func typeOf(artifactType string) string {
	if len(artifactType) > maxText {
		return ""
	}
	return artifactType
}

// trimmed says whether a record of ours leaves out what its manifest says.
func trimmed(record []byte) bool { return bytes.Contains(record, []byte(`"`+extraTrimmed+`":true`)) }

// references takes over what a manifest names.
func (m *Manifest) references(doc *spec.Document) {
	m.Blobs, m.Children = nil, nil
	if doc.Config != nil {
		m.Blobs = append(m.Blobs, doc.Config.Digest)
	}
	for _, l := range doc.Layers {
		m.Blobs = append(m.Blobs, l.Digest)
	}
	for _, c := range doc.Manifests {
		m.Children = append(m.Children, c.Digest)
	}
}

// rowOf is the mirror row of a record, without key and CID.
func rowOf(did syntax.DID, d digest.Digest, rec *records.Manifest) *Manifest {
	m := &Manifest{
		DID: did, Digest: d, at: rec.CreatedAt.UnixMicro(), RKey: records.ManifestRKey(d), Repository: rec.Repository, MediaType: rec.MediaType,
		Hold: rec.HoldDID, Annotations: annotationsOf(rec.Annotations), Repositories: repositoriesOf(rec),
	}
	known := json.Unmarshal(rec.Extra[extraArtifactType], &m.ArtifactType) == nil
	m.ArtifactType = typeOf(m.ArtifactType)
	if rec.ManifestBlob != nil {
		m.BlobCID = rec.ManifestBlob.CID
	}
	if rec.Subject != nil {
		if s, ok := spec.ParseDigest(rec.Subject.Digest); ok {
			m.Subject = s
		}
	}
	// A referrer of another AppView is completed from its bytes when it is first listed: see completeReferrers.
	if rec.ManifestBlob != nil && (known || m.Subject == "") {
		m.Size = rec.ManifestBlob.Size
	}
	blob := func(r *records.BlobReference) {
		if d, ok := spec.ParseDigest(r.Digest); ok {
			m.Blobs = append(m.Blobs, d)
		}
	}
	if rec.Config != nil {
		blob(rec.Config)
	}
	for i := range rec.Layers {
		blob(&rec.Layers[i])
	}
	for _, c := range rec.Manifests {
		if d, ok := spec.ParseDigest(c.Digest); ok {
			m.Children = append(m.Children, d)
		}
	}
	return m
}

// repositoriesOf are the repositories that a record says its manifest is in, as many as a record of ours lists.
func repositoriesOf(rec *records.Manifest) []string {
	var list []string
	if json.Unmarshal(rec.Extra[extraRepositories], &list) != nil || len(list) > maxRepositories {
		list = nil
	}
	if !slices.Contains(list, rec.Repository) {
		list = append(list, rec.Repository)
	}
	slices.Sort(list)
	size := 0
	return slices.DeleteFunc(slices.Compact(list), func(name string) bool {
		if !spec.IsRepository(name) {
			return true // nobody can ask for it
		}
		size += len(name)
		return size > maxRepoBytes && name != rec.Repository
	})
}

// setExtra puts a field of ours into a record.
func setExtra(rec *records.Manifest, field string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("manifest record: %w", err)
	}
	if rec.Extra == nil {
		rec.Extra = records.Extra{}
	}
	rec.Extra[field] = b
	return nil
}

// setRepositories says in which repositories a manifest is; last is the one of the latest push.
func setRepositories(rec *records.Manifest, last string, list []string) error {
	rec.Repository = last
	list = list[:min(len(list), maxRepositories)]
	size := 0
	for i, name := range list {
		if size += len(name); size > maxRepoBytes {
			list = list[:i]
			break
		}
	}
	if len(list) == 1 && list[0] == last {
		delete(rec.Extra, extraRepositories)
		return nil
	}
	return setExtra(rec, extraRepositories, list)
}

func tagOf(did syntax.DID, r atproto.Record) (*Tag, error) {
	rec, err := records.ParseTag(did, r.Value)
	if err != nil {
		return nil, err
	}
	if _, ok := spec.ParseDigest(string(rec.Digest)); !ok || !spec.IsTag(rec.Tag) || !spec.IsRepository(rec.Repository) {
		return nil, fmt.Errorf("repository, tag or digest is not one that can be served")
	}
	rkey := r.URI.RecordKey().String()
	if len(rkey) > maxText || len(r.CID) > maxText {
		return nil, fmt.Errorf("key or CID has more than %d bytes", maxText)
	}
	return &Tag{RKey: rkey, CID: r.CID, Repository: rec.Repository, Tag: rec.Tag, Digest: rec.Digest,
		UpdatedAt: rec.UpdatedAt.UnixMicro()}, nil
}
