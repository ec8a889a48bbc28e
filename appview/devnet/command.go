package devnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// Environment variables of the command.
const (
	EnvAccounts = "ATCR_DEVNET_ACCOUNTS"
	EnvPassword = "ATCR_DEVNET_PASSWORD"
)

const defaultCommandAddr = "127.0.0.1:2583"

// Command is the `devnet` subcommand.
func Command() *cobra.Command {
	var cfg Config
	var accounts, appPasswords []string
	cmd := &cobra.Command{
		Use:   "devnet",
		Short: "A PLC directory and a PDS with test accounts (not for production)",
		Long: `A PLC directory and a PDS with test accounts on one port, for development, demos and tests.

NOT FOR PRODUCTION: anybody who reaches it can make accounts, and it keeps passwords readable. It listens on loopback
only, unless it runs in a Kubernetes cluster or --allow-non-loopback is given.

  ` + EnvAccounts + `   accounts as handle[:password], separated by commas (default alice.test,bob.test)
  ` + EnvPassword + `   the password of accounts that were given none (default: generated once and kept)`,
		Example: `  atcr-dev devnet
  atcr-dev devnet --data ~/.local/share/devnet --account alice.test --app-password alice.test=aaaa-bbbb-cccc-dddd`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(accounts) == 0 {
				accounts = strings.Split(os.Getenv(EnvAccounts), ",")
			}
			var err error
			if cfg.Accounts, err = ParseAccounts(accounts, appPasswords, os.Getenv(EnvPassword)); err != nil {
				return err
			}
			cfg.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return run(cmd.Context(), cfg, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Addr, "addr", defaultCommandAddr, "address to listen on")
	f.StringVar(&cfg.PublicURL, "public-url", "", "URL under which others reach it (default http://localhost:<port>)")
	f.StringVar(&cfg.Dir, "data", "", "folder for accounts and repositories (default: temporary, gone at the end)")
	f.StringArrayVar(&accounts, "account", nil, "account as handle[:password], can be repeated")
	f.StringArrayVar(&appPasswords, "app-password", nil, "first app password as handle=password, can be repeated (default: generated once and kept)")
	f.BoolVar(&cfg.AllowNonLoopback, "allow-non-loopback", false, "listen where others can reach it")
	f.IntVar(&cfg.MaxSessionsPer5Min, "max-sessions", 0, "createSession calls per account in 5 minutes, as a real PDS limits them to 30 (default: no limit)")
	return cmd
}

// ParseAccounts reads accounts given as handle[:password], and app passwords given as handle=password. Without any account
// it is alice.test and bob.test; password is for those that name none.
func ParseAccounts(accounts, appPasswords []string, password string) ([]Account, error) {
	var out []Account
	for _, raw := range accounts {
		if raw = strings.TrimSpace(raw); raw == "" {
			continue
		}
		handle, own, _ := strings.Cut(raw, ":")
		if own == "" {
			own = password
		}
		out = append(out, Account{Handle: handle, Password: own})
	}
	if len(out) == 0 {
		out = []Account{{Handle: "alice.test", Password: password}, {Handle: "bob.test", Password: password}}
	}
	for _, raw := range appPasswords {
		handle, app, ok := strings.Cut(raw, "=")
		if !ok || app == "" {
			return nil, errors.New("an app password is given as handle=password")
		}
		found := false
		for i := range out {
			if out[i].Handle == handle {
				out[i].AppPassword, found = app, true
			}
		}
		if !found {
			return nil, fmt.Errorf("the app password for %s has no account: add --account %s", handle, handle)
		}
	}
	return out, nil
}

func run(ctx context.Context, cfg Config, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	n, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	if err := n.Print(out); err != nil {
		return errors.Join(fmt.Errorf("print the accounts: %w", err), n.Close())
	}
	<-ctx.Done()
	return n.Close()
}

// Print tells a person where it is and who can log in.
func (n *Net) Print(w io.Writer) error {
	fmt.Fprintf(w, "devnet: PLC directory and PDS at %s (not for production)\n\n", n.URL())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HANDLE\tDID\tPASSWORD\tAPP PASSWORD")
	for _, a := range n.Accounts() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", a.Handle, a.DID, a.Password, a.AppPassword)
	}
	return t.Flush()
}
