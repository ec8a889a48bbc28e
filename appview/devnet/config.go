package devnet

import (
	"log/slog"
	"net/http"

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
	// Accounts to make sure of; those that exist keep their DID.
	Accounts []Account
	// AllowNonLoopback permits an address that others can reach, outside a cluster.
	AllowNonLoopback bool
	// MaxSessionsPer5Min bounds createSession per identifier as the reference PDS does (30 there). Zero: no bound.
	MaxSessionsPer5Min int
	// Wrap is put around the whole handler, for tests that inject failures.
	Wrap   func(http.Handler) http.Handler
	Logger *slog.Logger
}

// Account to create.
type Account struct {
	Handle string
	// Password of the account; empty: generated.
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
