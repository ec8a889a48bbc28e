// Command atcr-hold is a hold: blob storage for an ATCR registry, with a small embedded PDS.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"

	"atcr.io/operator/appview/config/heap"
	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/observe"
)

func main() {
	if err := command().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "atcr-hold:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	serve := &cobra.Command{
		Use:   "serve",
		Short: "Serve the hold until SIGTERM",
		Args:  cobra.NoArgs,
		RunE:  run,
	}
	root := &cobra.Command{
		Use:   "atcr-hold",
		Short: "Blob storage for an ATCR registry, with a small embedded PDS",
		Long: `atcr-hold keeps the blobs of container images, on S3 or in a folder, and answers who may read and write them
by the captain and crew records of its embedded PDS. Registries (AppViews) find it by its DID: a did:web that is made
of HOLD_PUBLIC_URL, or a did:plc. Without a subcommand it serves.

` + variables(),
		Example: `  HOLD_PUBLIC_URL=http://localhost:8080 HOLD_OWNER=did:plc:... HOLD_DATABASE_DIR=./hold \
  STORAGE_DRIVER=filesystem STORAGE_ROOT_DIR=./blobs atcr-hold serve`,
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          run,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(serve, configCommand(), crewCommand(), repoCommand(), gcCommand())
	return root
}

func run(cmd *cobra.Command, _ []string) error {
	cfg, err := hold.Load()
	if err != nil {
		return fmt.Errorf("%w\nSee atcr-hold --help for every variable", err)
	}
	heap.Tune()
	log := logger(cmd.ErrOrStderr(), cfg)
	slog.SetDefault(log)
	for _, w := range cfg.Warnings(env.ToMap(os.Environ())) {
		log.Warn(w)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	tracing, err := tracing(ctx)
	if err != nil {
		return err
	}
	err = hold.Run(ctx, cfg, hold.Deps{Logger: log, Version: version.Version, Tracing: tracing})
	if terr := tracing.Close(); terr != nil {
		log.Warn("stopping", "error", terr) // what a collector misses is no failure of ours
	}
	return err
}

// tracing is what the OTEL_* variables ask for; nil when they ask for nothing.
func tracing(ctx context.Context) (*observe.Tracing, error) {
	wanted, err := observe.TracingWanted(os.Getenv)
	if err != nil || !wanted {
		return nil, err
	}
	return observe.OpenTracing(ctx, "atcr-hold", version.Version)
}

func logger(w io.Writer, cfg hold.Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormatter == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
