// Command atcr-dev is a registry for a developer's machine: AppView, hold and a development PDS in one process. It is
// not for production.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"atcr.io/operator/appview/cmd/atcr-dev/world"
	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/devnet"
)

func main() {
	if err := command().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "atcr-dev:", err)
		os.Exit(1)
	}
}

type flags struct {
	data, appview, debug, hold, devnet string
	accounts, appPasswords             []string
	verbose, temporary                 bool
}

func command() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "atcr-dev",
		Short: "A container registry on the AT Protocol for your machine: AppView, hold and a development PDS in one process",
		Long: `atcr-dev starts a registry (AppView), a hold for blobs, and a PLC directory and PDS with the accounts alice.test
and bob.test, all in one process on loopback, and prints the commands to log in and push. Data survives a restart.
NOT FOR PRODUCTION: passwords are readable.`,
		Example: `  atcr-dev
  atcr-dev --temporary --appview-addr 127.0.0.1:5050`,
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd, f) },
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	p := cmd.Flags()
	p.StringVar(&f.data, "data", filepath.Join(".run", "dev"), "folder that keeps accounts, records and blobs")
	p.BoolVar(&f.temporary, "temporary", false, "keep nothing: use a temporary folder and remove it at the end")
	p.StringVar(&f.appview, "appview-addr", "127.0.0.1:5000", "address of the registry")
	p.StringVar(&f.debug, "debug-addr", "127.0.0.1:5001", "address of its probes, metrics and profiles")
	p.StringVar(&f.hold, "hold-addr", "127.0.0.1:8080", "address of the hold")
	p.StringVar(&f.devnet, "devnet-addr", "127.0.0.1:2583", "address of the PLC directory and PDS")
	p.StringArrayVar(&f.accounts, "account", nil, "account as handle[:password], can be repeated (default alice.test and bob.test)")
	p.StringArrayVar(&f.appPasswords, "app-password", nil, "app password as handle=password, can be repeated (default: generated once and kept)")
	p.BoolVarP(&f.verbose, "verbose", "v", false, "log every request")
	cmd.AddCommand(devnet.Command())
	return cmd
}

func run(cmd *cobra.Command, f flags) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	started := time.Now()
	if f.temporary {
		if f.data, err = os.MkdirTemp("", "atcr-dev-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(f.data)) }()
	}
	if err := os.MkdirAll(f.data, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	accounts, err := devnet.ParseAccounts(f.accounts, f.appPasswords, os.Getenv(devnet.EnvPassword))
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelDebug
	}
	w, err := world.Start(ctx, world.Options{
		Dir: f.data, Accounts: accounts, AppViewAddr: f.appview, DebugAddr: f.debug, HoldAddr: f.hold, DevnetAddr: f.devnet,
		Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level})),
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w\nAnother program (or another atcr-dev) uses the address: stop it, or choose others with --appview-addr, --debug-addr, --hold-addr, --devnet-addr", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := greet(cmd.OutOrStdout(), w, f.data, time.Since(started)); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(cmd.ErrOrStderr(), "stopping")
	return nil
}

// greet prints what a person needs to push the first image.
func greet(out io.Writer, w *world.World, data string, took time.Duration) error {
	_, port, err := net.SplitHostPort(w.Host())
	if err != nil {
		return err
	}
	host := "localhost:" + port
	var b strings.Builder
	fmt.Fprintf(&b, "\nA registry on the AT Protocol is ready after %s (development only).\n\n", took.Round(time.Millisecond))
	fmt.Fprintf(&b, "  registry  %-28s hold  %s\n", host, w.HoldDID())
	fmt.Fprintf(&b, "  PLC, PDS  %-28s data  %s\n\n", strings.TrimPrefix(w.Devnet.URL(), "http://"), data)
	for _, a := range w.Devnet.Accounts() {
		fmt.Fprintf(&b, "  %-12s app password %s   %s\n", a.Handle, a.AppPassword, a.DID)
	}
	me := w.Devnet.Accounts()[0]
	image := fmt.Sprintf("%s/%s/hello", host, me.Handle)
	fmt.Fprintf(&b, `
Log in and push any image you have, here alpine:

  docker login %[1]s -u %[2]s -p %[3]s
  docker tag alpine %[4]s:latest && docker push %[4]s:latest

  podman login --tls-verify=false %[1]s -u %[2]s -p %[3]s
  podman push --tls-verify=false alpine %[4]s:latest

  skopeo copy --dest-tls-verify=false --dest-creds %[2]s:%[3]s docker://alpine docker://%[4]s:latest

  crane auth login %[1]s -u %[2]s -p %[3]s
  crane copy alpine %[4]s:latest

Pulling needs no login: docker pull %[4]s:latest
Ctrl-C stops it.
`, host, me.Handle, me.AppPassword, image)
	_, err = io.WriteString(out, b.String())
	return err
}
