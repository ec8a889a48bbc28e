package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/opencontainers/go-digest"

	"atcr.io/operator/appview/atproto/records"
)

const writesPerCall = 200 // what com.atproto.repo.applyWrites takes

// seedTags writes n tag records straight into the owner's PDS, as another AppView would.
func (n *network) seedTags(ctx context.Context, count int, place func(i int) (repository, tag string), d digest.Digest) error {
	session, err := n.session(ctx)
	if err != nil {
		return err
	}
	for at := 0; at < count; at += writesPerCall {
		var writes []any
		for i := at; i < min(at+writesPerCall, count); i++ {
			repository, tag := place(i)
			writes = append(writes, map[string]any{
				"$type": "com.atproto.repo.applyWrites#create", "collection": records.CollectionTag,
				"rkey": records.NewTagRKey(repository, tag),
				"value": records.Tag{Repository: repository, Tag: tag, Digest: d, MediaType: manifestType,
					UpdatedAt: time.Now(), DID: syntax.DID(n.did)},
			})
		}
		in := map[string]any{"repo": n.did, "writes": writes}
		if err := n.xrpc(ctx, session, "com.atproto.repo.applyWrites", in, nil); err != nil {
			return err
		}
	}
	return nil
}

// session logs the owner in at the PDS.
func (n *network) session(ctx context.Context) (token string, err error) {
	var out struct{ AccessJWT string }
	err = n.xrpc(ctx, "", "com.atproto.server.createSession", map[string]string{"identifier": owner, "password": appPassword}, &out)
	return out.AccessJWT, err
}

func (n *network) xrpc(ctx context.Context, token, method string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.pds+"/xrpc/"+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if out == nil {
		out = &struct{}{}
	}
	if err := fetch(req, out); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

// seedDistribution lays tags out on a distribution's disk; pushing them would take minutes.
func seedDistribution(dir, repository string, count int, tag func(i int) string, d digest.Digest) error {
	tags := filepath.Join(dir, "blobs", "docker", "registry", "v2", "repositories", filepath.FromSlash(repository), "_manifests", "tags")
	for i := range count {
		current := filepath.Join(tags, tag(i), "current")
		if err := os.MkdirAll(current, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(current, "link"), []byte(d), 0o600); err != nil {
			return err
		}
	}
	return nil
}
