package holdclient

import (
	"context"
	"errors"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Notification tells a hold about a pushed or pulled manifest (io.atcr.hold.notifyManifest). Holds write layer records
// from it, for quotas and garbage collection, and count.
type Notification struct {
	Repository     string       `json:"repository"`
	UserDID        syntax.DID   `json:"userDid"`
	ManifestDigest string       `json:"manifestDigest"`
	Tag            string       `json:"tag,omitempty"`
	Count          int          `json:"count,omitempty"` // of pulls; an extension
	Operation      string       `json:"operation"`       // push, pull or delete; foreign holds do not know delete
	Rev            string       `json:"rev,omitempty"`   // ours: the commit of the user's repository that did it
	Manifest       ManifestInfo `json:"manifest"`
}

// ManifestInfo is what a hold is told of a manifest.
type ManifestInfo struct {
	MediaType string         `json:"mediaType,omitempty"`
	Config    *BlobInfo      `json:"config,omitempty"`
	Layers    []BlobInfo     `json:"layers,omitempty"`
	Manifests []ManifestItem `json:"manifests,omitempty"`
}

// BlobInfo names a config or a layer.
type BlobInfo struct {
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	MediaType string `json:"mediaType,omitempty"`
}

// ManifestItem names an entry of an index.
type ManifestItem struct {
	BlobInfo
	Platform *Platform `json:"platform,omitempty"`
}

// Platform is the platform of an index entry.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// MethodNotify is the method that notifications are sent to.
const MethodNotify = "io.atcr.hold.notifyManifest"

// NotifySigned sends n with a token that the caller has signed for this hold and [MethodNotify].
func (c *Client) NotifySigned(ctx context.Context, h *Hold, token string, n Notification) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.post(ctx, h, MethodNotify, n, nil, func(req *http.Request) error {
		req.Header.Set("Authorization", "Bearer "+token)
		return nil
	})
}

// Notify sends n as user. It is idempotent at our holds. A foreign hold that does not know deletions has nothing to do
// for one.
func (c *Client) Notify(ctx context.Context, h *Hold, user syntax.DID, n Notification) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := c.call(ctx, h, user, MethodNotify, n, nil)
	var refused *Error
	if n.Operation == "delete" && errors.As(err, &refused) && refused.Name == "InvalidOperation" {
		return nil
	}
	return err
}
