// Command atcr-hold is a hold: blob storage for an ATCR registry, with a small embedded PDS.
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

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold"
)

// version is set by the linker.
var version = "dev"

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
by the captain and crew records of its embedded PDS. Registries (AppViews) find it by its did:web, which is made of
HOLD_PUBLIC_URL. Without a subcommand it serves.

` + variables(),
		Example: `  HOLD_PUBLIC_URL=http://localhost:8080 HOLD_OWNER=did:plc:... HOLD_DATABASE_DIR=./hold \
  STORAGE_DRIVER=filesystem STORAGE_ROOT_DIR=./blobs atcr-hold serve`,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          run,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(serve)
	return root
}

// variables lists the environment for --help.
func variables() string {
	var b strings.Builder
	b.WriteString("Environment:\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, v := range names.HoldVariables {
		note := ""
		switch {
		case v.Activity == names.Required:
			note = " Required."
		case v.Default != "":
			note = " Default: " + v.Default + "."
		}
		fmt.Fprintf(t, "  %s\t%s%s\n", v.Name, v.Doc, note)
	}
	_ = t.Flush() // into a builder, which takes all
	return strings.TrimRight(b.String(), "\n")
}

func run(cmd *cobra.Command, _ []string) error {
	cfg, err := hold.Load()
	if err != nil {
		return fmt.Errorf("%w\nSee atcr-hold --help for every variable", err)
	}
	log := logger(cmd.ErrOrStderr(), cfg)
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	return hold.Run(ctx, cfg, hold.Deps{Logger: log, Version: version})
}

func logger(w io.Writer, cfg hold.Config) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormatter == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}
