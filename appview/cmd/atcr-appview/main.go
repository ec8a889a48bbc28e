// Command atcr-appview is the registry: the OCI Distribution API over AT Protocol records and holds.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/heap"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/observe"
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
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          serve,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(&cobra.Command{Use: "serve", Short: "Serve the registry until SIGTERM", Args: cobra.NoArgs, RunE: serve}, configCommand(), backupCommand(), schemaCommand())
	return root
}

// variables lists the environment for --help.
func variables() string {
	var b strings.Builder
	b.WriteString("Environment:\n")
	_ = config.PrintVariables(&b, names.AppView) // into a builder, which takes all
	return b.String() + "\n" + observe.Help + "\n" + heap.Help
}

func serve(cmd *cobra.Command, _ []string) (err error) {
	defer func() { err = errors.Join(err, leave(os.Getenv(names.TerminationLog), err)) }()
	cfg, err := config.Load(os.Environ())
	if err != nil {
		return fmt.Errorf("%w\n%w", err, errConfig)
	}
	heap.Tune()
	log := cfg.Logger(cmd.ErrOrStderr())
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return server.Run(ctx, cfg, log)
}
