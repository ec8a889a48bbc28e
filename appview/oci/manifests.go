package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"atcr.io/operator/appview/atproto/alias"
	"atcr.io/operator/appview/background"
	"atcr.io/operator/appview/holdclient"
	"atcr.io/operator/appview/index"
	"atcr.io/operator/appview/oci/spec"
	"atcr.io/operator/appview/pulls"
)

// getManifest answers GET and HEAD of a manifest by tag or digest, with the bytes exactly as they were pushed. HEAD
// reads them too: it must not promise what GET cannot serve.
func (r *Registry) getManifest(w http.ResponseWriter, q *request) error {
	ctx, owner := q.Context(), q.Owner
	d, byDigest := spec.ParseDigest(q.Ref)
	h := w.Header()
	var m *index.Manifest
	var err error
	switch {
	case byDigest:
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
		err = r.byDigest(q, func() (err error) {
			m, err = r.Records.Manifest(ctx, q.Owner, q.Name.Repository, d)
			return err
		})
	case spec.LooksLikeDigest(q.Ref):
		return invalidDigest(q.Ref)
	case !spec.IsTag(q.Ref):
		return invalidTag(q.Ref)
	default:
		h.Set("Cache-Control", "no-cache")
		if err := r.byName(q); err != nil {
			return err
		}
		m, err = r.Records.Tagged(ctx, q.Owner, q.Name.Repository, q.Ref)
	}
	if err != nil {
		return r.manifestError(ctx, q, err)
	}
	etag := `"` + string(m.Digest) + `"`
	h.Set("Docker-Content-Digest", string(m.Digest))
	h.Set("ETag", etag)
	body, err := r.Records.Bytes(ctx, m)
	if err != nil {
		return r.manifestError(ctx, q, err)
	}
	if matches(q.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if q.Owner == owner {
		r.served(ctx, q)
	}
	h.Set("Content-Type", servedType(m.MediaType))
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if q.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may have left
		pull := pulls.Pull{Owner: q.Owner, Repository: q.Name.Repository, Digest: m.Digest, MediaType: m.MediaType, Hold: m.Hold, Reader: q.reader()}
		if !byDigest {
			pull.Tag = q.Ref
		}
		r.Pulls.Count(q.Request, pull)
	}
	return nil
}

// servedType is the media type that a manifest is served with: its record's, which its owner wrote, unless a browser would
// run the bytes for it.
func servedType(recorded string) string {
	if spec.IsManifestType(recorded) {
		return recorded
	}
	return "application/octet-stream"
}

func matches(ifNoneMatch, etag string) bool {
	for v := range strings.SplitSeq(ifNoneMatch, ",") {
		if v = strings.TrimSpace(v); v == etag || v == "W/"+etag || v == "*" {
			return true
		}
	}
	return false
}

// manifestError tells a missing manifest from a missing repository.
func (r *Registry) manifestError(ctx context.Context, q *request, err error) error {
	if !errors.Is(err, index.ErrNotFound) {
		return err
	}
	if known, err := r.Records.HasRepository(ctx, q.Owner, q.Name.Repository); err != nil || known {
		return unknownManifest(q.Ref)
	}
	return &Error{Code: errcode.ErrorCodeManifestUnknown, Detail: map[string]string{"name": q.Name.String(), "reference": clip(q.Ref)},
		Sentence: "There is no repository " + quote(q.Name.String()) + ".", Remedy: "Check the spelling, or push an image to make it."}
}

// putManifest answers PUT of a manifest by tag or digest, with further tags in ?tag= (distribution-spec 1.2).
func (r *Registry) putManifest(w http.ResponseWriter, q *request) error {
	want, tags, err := manifestTarget(q)
	if err != nil {
		return err
	}
	body, err := r.readManifest(w, q)
	if err != nil {
		return err
	}
	d := digest.FromBytes(body)
	if want != "" {
		if d = want.Algorithm().FromBytes(body); d != want {
			return wrongDigest(map[string]string{"expected": string(want), "got": string(d)})
		}
	}
	contentType, _, err := mime.ParseMediaType(q.Header.Get("Content-Type"))
	if err != nil && q.Header.Get("Content-Type") != "" {
		return invalidManifest("the Content-Type is not a media type")
	}
	doc, err := spec.ParseManifest(body, contentType)
	if err != nil {
		return invalidManifest(err.Error())
	}
	hold, err := r.place(q, d, doc)
	if err != nil {
		return err
	}
	if err := r.Records.Put(q.Context(), q.Owner, index.Push{Repository: q.Name.Repository, Digest: d, Raw: body,
		Document: doc, Hold: hold.DID, Tags: tags}); err != nil {
		return err
	}
	if alias.IsHandle(q.Name.Owner) {
		if err := r.Handles.Pushed(q.Context(), q.Name.Owner, q.Owner); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Location", "/v2/"+q.Name.String()+"/manifests/"+string(d))
	h.Set("Docker-Content-Digest", string(d))
	if doc.Subject != nil {
		h.Set("OCI-Subject", string(doc.Subject.Digest))
	}
	if len(q.URL.Query()["tag"]) > 0 {
		h.Set("OCI-Tag", strings.Join(tags, ", "))
	}
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// manifestTarget reads which digest and tags a PUT is for.
func manifestTarget(q *request) (want digest.Digest, tags []string, err error) {
	if spec.LooksLikeDigest(q.Ref) {
		d, ok := spec.ParseDigest(q.Ref)
		if !ok {
			return "", nil, invalidDigest(q.Ref)
		}
		want = d
	} else {
		tags = append(tags, q.Ref)
	}
	for _, t := range q.URL.Query()["tag"] {
		if !contains(tags, t) {
			tags = append(tags, strings.Clone(t))
		}
	}
	for _, t := range tags {
		if !spec.IsTag(t) {
			return "", nil, invalidTag(t)
		}
	}
	if len(tags) > index.MaxTags {
		return "", nil, fail(errcode.ErrorCodeTagInvalid, "One push may set "+strconv.Itoa(index.MaxTags)+" tags at most.", "Set the others with another push.")
	}
	return want, tags, nil
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func (r *Registry) readManifest(w http.ResponseWriter, q *request) ([]byte, error) {
	tooLarge := &Error{Code: errcode.ErrorCodeSizeInvalid, Status: http.StatusRequestEntityTooLarge,
		Sentence: fmt.Sprintf("The manifest is larger than %d bytes.", spec.MaxManifestSize),
		Remedy:   "Split the image into fewer layers, or move annotations into a blob."}
	if q.ContentLength > spec.MaxManifestSize {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.moving(w, q.Request), spec.MaxManifestSize))
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, &Error{Code: errcode.ErrorCodeManifestInvalid, Err: err,
			Sentence: "The request body ended before all of its bytes had arrived.", Remedy: "Send the manifest again."}
	}
	return body, nil
}

// place finds the hold that the manifest will name: the one that the owner pushes to, or another of the owner's that
// has all of the blobs. So an image of before a change of hold gets another tag without being uploaded again.
func (r *Registry) place(q *request, d digest.Digest, doc *spec.Document) (*holdclient.Hold, error) {
	hold, err := r.pushHold(q)
	if err != nil {
		return nil, err
	}
	problem := r.checkReferences(q, hold, d, doc)
	var missing *Error
	if !errors.As(problem, &missing) || missing.Code != errcode.ErrorCodeManifestBlobUnknown {
		return hold, problem
	}
	blobs := doc.Blobs()
	former, err := r.Records.Holds(q.Context(), q.Owner, blobs[0].Digest)
	if err != nil {
		return nil, err
	}
	for _, did := range former {
		if did == hold.DID {
			continue
		}
		other, err := r.Holds.Resolve(q.Context(), did)
		if err == nil && r.reserve(q.Context(), q, other, d, doc, blobs) == nil {
			return other, nil
		}
	}
	return nil, problem
}

// checkReferences insists that what the manifest names is there: blobs in the hold that it will name, entries of an
// index among the owner's manifests. A subject may be missing. The hold keeps the blobs, and their place in the owner's
// quota, for the manifest d from here on.
func (r *Registry) checkReferences(q *request, hold *holdclient.Hold, d digest.Digest, doc *spec.Document) error {
	group, ctx := errgroup.WithContext(q.Context())
	if blobs := doc.Blobs(); len(blobs) > 0 {
		group.Go(background.Safely(ctx, r.Log, "reserving a manifest", func() error { return r.reserve(ctx, q, hold, d, doc, blobs) }))
	}
	if err := r.Records.CheckEntries(q.Context(), q.Owner, doc); err != nil {
		_ = group.Wait() // what is wrong with an entry is what the client should hear about
		return err
	}
	return group.Wait()
}

// reserve has the hold check the manifest's blobs and keep them. A hold to which no upload went yet has to know the owner
// first.
func (r *Registry) reserve(ctx context.Context, q *request, hold *holdclient.Hold, d digest.Digest, doc *spec.Document, blobs []spec.Descriptor) error {
	var info holdclient.ManifestInfo
	for i, b := range blobs {
		item := holdclient.BlobInfo{Digest: string(b.Digest), Size: b.Size}
		if i == 0 && doc.Config != nil { // Blobs lists the config first
			info.Config = &item
		} else {
			info.Layers = append(info.Layers, item)
		}
	}
	if err := r.Holds.EnsureCrew(ctx, hold, q.Owner); err != nil {
		return err
	}
	known, err := r.Holds.Reserve(ctx, hold, q.Owner, d, info)
	var refused *holdclient.Error
	if errors.As(err, &refused) {
		switch at := refused.Detail; refused.Kind {
		case holdclient.NotFound:
			return unknownReference("blob", digest.Digest(at.Digest))
		case holdclient.OtherSize:
			for _, b := range blobs {
				if string(b.Digest) == at.Digest && b.Size != at.Size {
					return otherSize(b, at.Size)
				}
			}
		}
	}
	if err != nil || known {
		return err
	}
	return r.checkBlobs(ctx, q, hold, blobs)
}

// checkBlobs asks a hold for each blob: foreign holds know no other way.
func (r *Registry) checkBlobs(ctx context.Context, q *request, hold *holdclient.Hold, blobs []spec.Descriptor) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	type sized struct {
		digest.Digest
		size int64
	}
	seen := map[sized]bool{}
	for _, b := range blobs {
		key := sized{b.Digest, b.Size}
		if seen[key] {
			continue
		}
		seen[key] = true
		group.Go(background.Safely(ctx, r.Log, "asking for a blob", func() error {
			size, err := r.statBlob(ctx, hold, q.Owner, q.reader(), b.Digest)
			if kind, ok := holdclient.KindOf(err); ok && kind == holdclient.NotFound {
				return unknownReference("blob", b.Digest)
			}
			if err == nil && size != b.Size {
				return otherSize(b, size)
			}
			return err
		}))
	}
	return group.Wait()
}

func otherSize(b spec.Descriptor, size int64) error {
	return invalidManifest(fmt.Sprintf("it says that %s has %d bytes, but it has %d", b.Digest, b.Size, size))
}

func unknownReference(what string, d digest.Digest) *Error {
	return fail(errcode.ErrorCodeManifestBlobUnknown, "The manifest names the "+what+" "+string(d)+", which is not there.",
		"Push it before the manifest that names it.").with(map[string]string{"digest": string(d)})
}

func invalidManifest(problem string) *Error {
	return fail(errcode.ErrorCodeManifestInvalid, "The manifest is not valid: "+problem+".",
		"Build it again with a current client; see the OCI image specification.")
}

func invalidTag(tag string) error {
	return fail(errcode.ErrorCodeTagInvalid, quote(tag)+" is not a tag.",
		"Tags have up to 128 letters, digits, and _ . - after the first.")
}

// deleteManifest answers DELETE of a tag, or of a manifest with its tags.
func (r *Registry) deleteManifest(w http.ResponseWriter, q *request) error {
	var err error
	switch d, byDigest := spec.ParseDigest(q.Ref); {
	case byDigest:
		err = r.Records.DeleteManifest(q.Context(), q.Owner, q.Name.Repository, d)
	case spec.LooksLikeDigest(q.Ref):
		return invalidDigest(q.Ref)
	case !spec.IsTag(q.Ref):
		return invalidTag(q.Ref)
	default:
		err = r.Records.DeleteTag(q.Context(), q.Owner, q.Name.Repository, q.Ref)
	}
	var used *index.InUse
	if errors.As(err, &used) {
		return &Error{Code: errcode.ErrorCodeDenied, Status: http.StatusConflict, Detail: map[string]string{"manifest": string(used.Index)},
			Sentence: "The manifest is part of the index " + string(used.Index) + ".", Remedy: "Delete the index first."}
	}
	if err != nil {
		return r.manifestError(q.Context(), q, err)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
