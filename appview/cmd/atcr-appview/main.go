// Command atcr-appview is the registry: the OCI Distribution API over AT Protocol records and holds.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/server"
)

func main() {
	if err := command().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "atcr-appview:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "atcr-appview",
		Short: "A container registry on the AT Protocol",
		Long: `atcr-appview is a container registry: image manifests are records in the users' own Personal Data Servers,
blobs are in holds, and this server speaks the OCI Distribution API to docker, podman, containerd and kubelet. It is
configured by environment variables. Without a subcommand it serves.

` + variables(),
		Example: `  ATCR_DEFAULT_HOLD_DID=did:web:127.0.0.1:8080 atcr-appview serve
  atcr-appview config check`,
		Version:       version.Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          serve,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	check := &cobra.Command{
		Use:   "check",
		Short: "Say whether the environment is valid, and what the server makes of it",
		Args:  cobra.NoArgs,
		RunE:  checkConfig,
	}
	conf := &cobra.Command{Use: "config", Short: "Look at the configuration"}
	conf.AddCommand(check)
	root.AddCommand(&cobra.Command{Use: "serve", Short: "Serve the registry until SIGTERM", Args: cobra.NoArgs, RunE: serve}, conf)
	return root
}

// variables lists the environment for --help.
func variables() string {
	var b strings.Builder
	b.WriteString("Environment:\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, v := range names.AppView {
		note := ""
		switch v.Activity {
		case names.Required:
			note = " Required."
		case names.Later:
			note = " (Not active yet.)"
		}
		if v.Default != "" {
			note += " Default: " + v.Default + "."
		}
		fmt.Fprintf(t, "  %s\t%s%s\n", v.Name, v.Doc, note)
	}
	t.Flush()
	return strings.TrimRight(b.String(), "\n")
}

func serve(cmd *cobra.Command, _ []string) error {
	cfg, err := config.Load(os.Environ())
	if err != nil {
		return fmt.Errorf("%w\nSee atcr-appview --help for every variable", err)
	}
	log := cfg.Logger(cmd.ErrOrStderr())
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return server.Run(ctx, cfg, log)
}

// checkConfig never prints a value that may be secret.
func checkConfig(cmd *cobra.Command, _ []string) error {
	cfg, err := config.Load(os.Environ())
	if err != nil {
		return err
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	rt, err := config.OpenRuntime(cfg, quiet)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	for _, w := range cfg.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
	now := rt.Current()
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "listens on\t%s, probes on %s\n", cfg.HTTPAddr, cfg.DebugAddr)
	fmt.Fprintf(t, "public URL\t%s (service %s)\n", cfg.BaseURL, cfg.ServiceName)
	fmt.Fprintf(t, "default hold\t%s\n", now.DefaultHoldDID)
	fmt.Fprintf(t, "configured holds\t%d\n", len(now.Holds))
	fmt.Fprintf(t, "token key\t%s, tokens live %s\n", cfg.AuthKeyPath, cfg.TokenExpiration)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "The configuration is valid.")
	return err
}
