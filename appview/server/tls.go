package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"

	"atcr.io/operator/appview/config/files"
)

// certificate is the pair of files that the registry API speaks HTTPS with. New connections get the newest pair that
// could be read; those that are open go on with theirs.
type certificate struct {
	certPath, keyPath string
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]
}

func openCertificate(certPath, keyPath string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certPath: certPath, keyPath: keyPath, log: log}
	_, err := c.reload()
	return c, err
}

// reload reads the pair. One that does not belong together, as while the files are being replaced, leaves the last good
// one in place.
func (c *certificate) reload() (changed bool, err error) {
	pair, err := tls.LoadX509KeyPair(c.certPath, c.keyPath)
	if err != nil {
		return false, fmt.Errorf("reading the TLS certificate %s and its key: %w", c.certPath, err)
	}
	if was := c.current.Load(); was != nil && slices.EqualFunc(was.Certificate, pair.Certificate, slices.Equal[[]byte]) {
		return false, nil
	}
	c.current.Store(&pair)
	return true, nil
}

// watch reloads when a file changes.
func (c *certificate) watch(w *files.Watcher, observe func(error)) {
	reload := func() {
		changed, err := c.reload()
		if err != nil {
			c.log.Error("the TLS certificate did not load; the last good one stays", "error", err)
		}
		if changed || err != nil {
			observe(err)
		}
	}
	w.Add(filepath.Dir(c.certPath), reload)
	if d := filepath.Dir(c.keyPath); d != filepath.Dir(c.certPath) {
		w.Add(d, reload)
	}
}

// config of the listener. Registry clients gain nothing from HTTP/2: they open a connection for each transfer, and its
// windows slow a large layer down.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
