package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifestSize = 1494 // bytes; the size that facts and earlier runs used
	layerSize    = 64 << 10
)

// image is what the request rows ask for.
type image struct {
	config, layer []byte
	manifest      []byte
	tag           string
}

func digestOf(b []byte) string { return string(digest.FromBytes(b)) }

// newImage makes a config, a layer of random bytes and a manifest of manifestSize bytes.
func newImage() *image {
	i := &image{config: []byte(`{"architecture":"amd64","os":"linux"}`), layer: random(layerSize), tag: "v1"}
	i.manifest = manifestFor(i.config, i.layer, "")
	return i
}

// manifestFor names a config and a layer, and is filled up with an annotation.
func manifestFor(config, layer []byte, extra string) []byte {
	shape := func(pad int) []byte {
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json",`+
			`"digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]%s,`+
			`"annotations":{"bench":%q}}`, manifestType, digestOf(config), len(config), digestOf(layer), len(layer), extra, strings.Repeat("x", pad))
	}
	return shape(max(0, manifestSize-len(shape(0))))
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see its documentation
	return b
}

// fresh makes a blob that was never pushed out of one that was: random bytes are slow, and only the digest counts.
var freshness atomic.Uint64

func fresh(b []byte) {
	binary.LittleEndian.PutUint64(b, freshness.Add(1))
}

// push uploads config, layer and manifest.
func (p *peer) push(ctx context.Context, i *image) error {
	d := dialer{}
	defer d.close()
	for _, blob := range [][]byte{i.config, i.layer} {
		if err := p.pushBlob(ctx, d, repository, blob, digestOf(blob)); err != nil {
			return err
		}
	}
	return p.pushManifest(ctx, d, repository, i.tag, i.manifest)
}

// pushBlob uploads a blob as docker does: POST, then PUT of all bytes at the Location, as it came.
func (p *peer) pushBlob(ctx context.Context, d dialer, repository string, blob []byte, digest string) error {
	auth, err := p.authorization(ctx, loggedIn, repository, "pull,push")
	if err != nil {
		return err
	}
	c, err := d.to(p.host)
	if err != nil {
		return err
	}
	header, err := c.do(&call{method: http.MethodPost, target: "/v2/" + repository + "/blobs/uploads/", header: auth,
		want: want{status: http.StatusAccepted}})
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	host, target, err := location(p.host, header.Get("Location"))
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	if c, err = d.to(host); err != nil {
		return err
	}
	_, err = c.do(&call{method: http.MethodPut, target: target + separator + "digest=" + digest, body: blob,
		header: auth + "Content-Type: application/octet-stream\r\n", want: want{status: http.StatusCreated}})
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

func (p *peer) pushManifest(ctx context.Context, d dialer, repository, ref string, manifest []byte) error {
	auth, err := p.authorization(ctx, loggedIn, repository, "pull,push")
	if err != nil {
		return err
	}
	c, err := d.to(p.host)
	if err != nil {
		return err
	}
	_, err = c.do(&call{method: http.MethodPut, target: "/v2/" + repository + "/manifests/" + ref, body: manifest,
		header: auth + "Content-Type: " + manifestType + "\r\n", want: want{status: http.StatusCreated, digest: digestOf(manifest)}})
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// pullBlob reads a blob, following the redirect as it came and without the token, and compares every byte.
func (p *peer) pullBlob(ctx context.Context, d dialer, as who, repository string, blob []byte, digest string) error {
	auth, err := p.authorization(ctx, as, repository, "pull")
	if err != nil {
		return err
	}
	c, err := d.to(p.host)
	if err != nil {
		return err
	}
	get := &call{method: http.MethodGet, target: "/v2/" + repository + "/blobs/" + digest, header: auth, want: want{status: http.StatusOK, body: blob}}
	for range 3 {
		resp, err := c.send(get)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if resp.StatusCode != http.StatusTemporaryRedirect {
			if err := c.check(get, resp); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		}
		redirect := *get
		redirect.want = want{status: http.StatusTemporaryRedirect}
		if err := c.check(&redirect, resp); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		host, target, err := location(c.host, resp.Header.Get("Location"))
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if c, err = d.to(host); err != nil {
			return err
		}
		get = &call{method: http.MethodGet, target: target, want: get.want}
	}
	return fmt.Errorf("%s: too many redirects", p.name)
}
