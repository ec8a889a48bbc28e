package devnet

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// Net is a running development network.
type Net struct{}

// Start listens and serves until Close.
func Start(ctx context.Context, cfg Config) (*Net, error) { return nil, errors.New("not written yet") }

// URL of both the PLC directory and the PDS, as PublicURL says.
func (n *Net) URL() string { return "" }

// Addr is the address listened on.
func (n *Net) Addr() string { return "" }

// Accounts with their DIDs and passwords, in the order of Config.
func (n *Net) Accounts() []AccountInfo { return nil }

// Account by handle; panics when there is none (tests name accounts they configured).
func (n *Net) Account(handle string) AccountInfo { return AccountInfo{} }

// Count of answered calls of an XRPC method by its last part, such as "createSession".
func (n *Net) Count(method string) int { return 0 }

// Close stops serving.
func (n *Net) Close() error { return nil }

// Command is the `devnet` subcommand.
func Command() *cobra.Command { return &cobra.Command{Use: "devnet"} }
