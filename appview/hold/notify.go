package hold

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/pds"
)

// Operations of notifyManifest.
const (
	operationPush   = "push"
	operationPull   = "pull"
	operationDelete = "delete" // an extension
)

// notification is the input of io.atcr.hold.notifyManifest. What an index has below manifests is notified by itself.
type notification struct {
	Repository string     `json:"repository"`
	UserDID    syntax.DID `json:"userDid"`
	Digest     string     `json:"manifestDigest"`
	Tag        string     `json:"tag"`
	Operation  string     `json:"operation"`
	Count      int64      `json:"count"` // of pulls, an extension
	Rev        string     `json:"rev"`   // an extension: the commit of the user's repository with this push or deletion
	Manifest   struct {
		Config  *namedBlob  `json:"config"`
		Layers  []namedBlob `json:"layers"`
		Entries []namedBlob `json:"manifests"` // of an index
	} `json:"manifest"`
}

type namedBlob struct {
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	MediaType string `json:"mediaType"`
}

// rev is the notification's commit, empty when it names none: notifications may arrive in another order than what they
// tell of happened.
func (n notification) rev() string {
	tid, err := syntax.ParseTID(n.Rev)
	if err != nil {
		return ""
	}
	return tid.String()
}

// blobs are the layers, and the config if there is one.
func (n notification) blobs() ([]ledger.Blob, error) {
	var out []ledger.Blob
	add := func(b namedBlob, layer bool) error {
		d, err := storage.ParseDigest(b.Digest)
		if err != nil {
			return xrpc.Errorf(http.StatusBadRequest, "InvalidDigest", "A blob's digest must be of sha256 or sha512; correct it.").Because(err)
		}
		out = append(out, ledger.Blob{Digest: d, Layer: layer})
		return nil
	}
	for _, l := range n.Manifest.Layers {
		if err := add(l, true); err != nil {
			return nil, err
		}
	}
	if n.Manifest.Config == nil {
		return out, nil
	}
	return out, add(*n.Manifest.Config, false)
}

// entries are the manifests that an index lists.
func (n notification) entries() []digest.Digest {
	var out []digest.Digest
	for _, e := range n.Manifest.Entries {
		if d, err := storage.ParseDigest(e.Digest); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// notifyManifest answers io.atcr.hold.notifyManifest. A push writes a layer record for each layer of the manifest
// that the user has in this hold, and counts; a repeated push of the same manifest to the same tag changes nothing, nor
// does one of a manifest that has nothing to do with this hold.
// The push is public already, so it is taken whatever the quota: see reserveManifest. A deletion takes the layer
// records away, see delete.go. A pull counts, for repositories that were pushed here.
func (s *Server) notifyManifest(w http.ResponseWriter, r *http.Request) error {
	const method = "io.atcr.hold.notifyManifest"
	caller, err := s.tokens.caller(r, method)
	if err != nil {
		return err
	}
	var in notification
	if err := xrpc.ReadJSONOf(w, r, &in, xrpc.MaxManifest); err != nil {
		return err
	}
	user, err := syntax.ParseDID(in.UserDID.String())
	if err != nil || in.Repository == "" || len(in.Repository) > 256 || len(in.Tag) > 128 {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidRequest",
			"userDid, a repository of at most 256 bytes and a tag of at most 128 are needed; correct them.")
	}
	in.UserDID = canonical(user)
	d, err := storage.ParseDigest(in.Digest)
	if err != nil {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidDigest", "manifestDigest must be of sha256 or sha512; correct it.").Because(err)
	}
	switch in.Operation {
	case "", operationPush:
		if caller != in.UserDID {
			return xrpc.Errorf(http.StatusForbidden, "UserMismatch", "%s cannot notify pushes of %s; use that user's service token.", caller, in.UserDID)
		}
		if !s.roster.may(caller, blobWrite) {
			return xrpc.Errorf(http.StatusForbidden, "Forbidden",
				"%s has no %s permission in this hold; ask its captain %s.", caller, blobWrite, s.roster.get().Owner)
		}
		return s.pushed(w, r, in, d)
	case operationDelete:
		// Also whoever is not in the crew any more may take back what is theirs.
		if caller != in.UserDID {
			return xrpc.Errorf(http.StatusForbidden, "UserMismatch", "%s cannot notify deletions of %s; use that user's service token.", caller, in.UserDID)
		}
		return s.deleted(w, r, in, d)
	case operationPull:
		return s.pulled(w, r, caller, in)
	}
	return xrpc.Errorf(http.StatusBadRequest, "InvalidOperation", "The operation must be push, pull or delete; correct it.")
}

func (s *Server) pushed(w http.ResponseWriter, r *http.Request, in notification, d digest.Digest) error {
	unlock := s.userLocks.lock(in.UserDID.String())
	defer unlock()
	created, counted, err := s.recordPush(r.Context(), in, d)
	if err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{
		"success": true, "operation": operationPush, "statsUpdated": counted, "layersCreated": created,
	})
	return nil
}

// recordPush writes what a push means for the hold's records, and counts it.
// The caller holds the user's lock.
func (s *Server) recordPush(ctx context.Context, in notification, d digest.Digest) (created int, counted bool, err error) {
	created, current, err := s.recordManifest(ctx, in, d)
	if err != nil || !current {
		return 0, false, err
	}
	counted, err = s.countPush(ctx, in, d)
	return created, counted, err
}

// recordManifest writes the layer records of a public manifest. One that a later notification has undone means nothing, nor
// does one of which nothing is here: it is not current.
// The caller holds the user's lock.
func (s *Server) recordManifest(ctx context.Context, in notification, d digest.Digest) (created int, current bool, err error) {
	blobs, err := in.blobs()
	if err != nil {
		return 0, false, err
	}
	known, err := s.ledger.Knows(ctx, in.UserDID, d, blobs, in.entries())
	if err != nil || !known {
		return 0, false, err
	}
	current, err = s.ledger.Pushed(ctx, ledger.Notified{DID: in.UserDID, Manifest: d, Rev: in.rev(), Blobs: blobs, Now: s.now()})
	if err != nil || !current {
		return 0, false, err
	}
	created, err = s.writeLayers(ctx, in, d)
	return created, err == nil, err
}

// tell records the push of a public manifest that no registry told of. The caller holds the user's lock.
func (s *Server) tell(ctx context.Context, did syntax.DID, d digest.Digest, m namedBlobs) error {
	_, _, err := s.recordPush(ctx, untold(did, d, m), d)
	return err
}

// untold is the notification of a public manifest that no registry sent.
func untold(did syntax.DID, d digest.Digest, m namedBlobs) notification {
	in := notification{Repository: m.Repository, UserDID: did, Digest: d.String(), Operation: operationPush}
	in.Manifest.Config = m.Config
	for _, l := range append(append([]namedBlob{}, m.Layers...), m.Blobs...) {
		if _, err := storage.ParseDigest(l.Digest); err == nil { // others cannot be in a hold
			in.Manifest.Layers = append(in.Manifest.Layers, l)
		}
	}
	if c := m.Config; c != nil {
		if _, err := storage.ParseDigest(c.Digest); err != nil {
			in.Manifest.Config = nil
		}
	}
	return in
}

// writeLayers writes the layer records of a manifest. The ledger chooses each record key once, so that a repeat after
// a crash at any moment puts the same records. Sizes are the storage's, not the caller's.
func (s *Server) writeLayers(ctx context.Context, in notification, d digest.Digest) (created int, err error) {
	manifest := manifestURI(in.UserDID, d)
	var writes []pds.Write
	seen := map[digest.Digest]bool{}
	for _, l := range in.Manifest.Layers {
		ld, err := storage.ParseDigest(l.Digest)
		if err != nil {
			return 0, xrpc.Errorf(http.StatusBadRequest, "InvalidDigest", "A layer's digest must be of sha256 or sha512; correct it.").Because(err)
		}
		size, err := s.ledger.Linked(ctx, in.UserDID, ld)
		if errors.Is(err, ledger.ErrNotFound) || seen[ld] {
			continue // not in this hold, e.g. a non-distributable layer; or twice in the manifest
		}
		if err != nil {
			return 0, err
		}
		seen[ld] = true
		kept, fresh, err := s.ledger.KeepLayer(ctx, ledger.Layer{
			Manifest: manifest, Digest: ld, DID: in.UserDID, Size: size, RKey: syntax.RecordKey(s.tids.Next()), CreatedAt: s.now(),
		})
		if err != nil {
			return 0, err
		}
		if fresh {
			created++
		}
		value, err := pds.RecordOf(layer{
			Digest: ld.String(), Size: kept.Size, MediaType: mediaType(l.MediaType), Manifest: manifest,
			UserDID: in.UserDID, CreatedAt: datetime(kept.CreatedAt),
		})
		if err != nil {
			return 0, fmt.Errorf("layer record: %w", err)
		}
		writes = append(writes, pds.Write{Op: pds.Put, Collection: layerCollection, RKey: kept.RKey, Value: value})
	}
	for len(writes) > 0 {
		n := min(len(writes), pds.MaxWrites)
		if _, _, err := s.engine.ApplyWrites(ctx, s.self.did, writes[:n], cid.Undef); err != nil {
			return 0, fmt.Errorf("write layer records: %w", err)
		}
		writes = writes[n:]
	}
	return created, nil
}

// getLayersForManifest answers io.atcr.hold.getLayersForManifest with the layer records of a manifest. They are public, as
// all records of the hold.
func (s *Server) getLayersForManifest(w http.ResponseWriter, r *http.Request) error {
	manifest, err := syntax.ParseATURI(r.URL.Query().Get("manifest"))
	if err != nil {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidRequest", "manifest must be the at:// URI of a manifest record; correct it.")
	}
	kept, err := s.ledger.LayersOf(r.Context(), manifest)
	if err != nil {
		return err
	}
	layers := []map[string]any{}
	for _, l := range kept {
		rec, err := s.engine.GetRecord(r.Context(), s.self.did, layerCollection, l.RKey)
		if errors.Is(err, pds.ErrRecordNotFound) {
			continue // it is written, or deleted, just now
		}
		if err != nil {
			return fmt.Errorf("read layer record: %w", err)
		}
		layers = append(layers, rec.Value)
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{"layers": layers})
	return nil
}

const maxMediaType = 128 // bytes, by the lexicon

// mediaType keeps what the lexicon takes.
func mediaType(s string) string {
	if s == "" || len(s) > maxMediaType {
		return "application/octet-stream"
	}
	return s
}
