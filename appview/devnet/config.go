package devnet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Config of a development network.
type Config struct {
	// Addr to listen on, host:port; port 0 takes a free one. Empty: 127.0.0.1:0.
	Addr string
	// PublicURL is what DID documents name as the PDS. Empty: http://localhost:<port>.
	PublicURL string
	// Dir keeps accounts, repositories and blobs. Empty: a temporary folder, removed by Close.
	Dir string
	// Accounts to make sure of; those that exist keep their DID, and get the passwords given here.
	Accounts []Account
	// AllowNonLoopback permits an address that others can reach, outside a cluster.
	AllowNonLoopback bool
	// MaxSessionsPer5Min bounds createSession per identifier as the reference PDS does (30 there). Zero: no bound.
	MaxSessionsPer5Min int
	// AccessTTL of access tokens. Zero: 2 hours, as the reference PDS.
	AccessTTL time.Duration
	// RefreshGrace is how long a refresh token works again after its use. Zero: 10 seconds (the reference PDS: 2 hours).
	RefreshGrace time.Duration
	// Wrap is put around the whole handler, for tests that inject failures.
	Wrap   func(http.Handler) http.Handler
	Logger *slog.Logger
}

// Account to create.
type Account struct {
	// Handle under .test.
	Handle string
	// Password of the account; empty: generated once and kept.
	Password string
	// AppPassword is the first app password ("xxxx-xxxx-xxxx-xxxx" by custom); empty: generated once and kept.
	AppPassword string
}

// AccountInfo tells how to use an account.
type AccountInfo struct {
	DID         syntax.DID
	Handle      syntax.Handle
	Password    string
	AppPassword string
}

const (
	defaultAddr         = "127.0.0.1:0"
	defaultAccessTTL    = 2 * time.Hour
	defaultRefreshGrace = 10 * time.Second
	refreshTTL          = 90 * 24 * time.Hour
	userDomain          = ".test"
)

// ErrNotLoopback: the address can be reached by others, and nobody said that they may.
var ErrNotLoopback = errors.New("devnet is not for production and listens on loopback only: use an address such as 127.0.0.1:2583, or allow others explicitly")

func (c *Config) complete() error {
	if c.Addr == "" {
		c.Addr = defaultAddr
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.AccessTTL == 0 {
		c.AccessTTL = defaultAccessTTL
	}
	if c.RefreshGrace == 0 {
		c.RefreshGrace = defaultRefreshGrace
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || (u.Path != "" && u.Path != "/") {
			return fmt.Errorf("the public URL must be http(s)://host[:port], it is %q", c.PublicURL)
		}
		c.PublicURL = u.Scheme + "://" + u.Host
	}
	return c.checkAddress()
}

// checkAddress refuses addresses beyond loopback, but in a cluster, where a pod has no other.
func (c *Config) checkAddress() error {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return fmt.Errorf("the address must be host:port: %w", err)
	}
	if c.AllowNonLoopback || os.Getenv("KUBERNETES_SERVICE_HOST") != "" || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%w (the address is %s)", ErrNotLoopback, c.Addr)
	}
	return nil
}
