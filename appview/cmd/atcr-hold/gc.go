package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/hold"
)

func gcCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove blobs and layer records that no manifest of their users names any more, once",
		Long: `Removes blobs that no manifest of their users names and that were not used within HOLD_GC_GRACE, layer records of
manifests that are gone, and objects of the storage that nobody has any more. Manifests are read from the users' PDSes: a
user whose PDS cannot be reached keeps everything. What the hold's database knows nothing of is counted, and stays.

With a hold running on the same HOLD_DATABASE_DIR, that one does it; without, this command opens the storage itself.
HOLD_GC_ENABLED=true does the same every HOLD_GC_INTERVAL.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := hold.Load()
			if err != nil {
				return fmt.Errorf("%w\nSee atcr-hold --help for every variable", err)
			}
			g, err := hold.AskForCollection(cmd.Context(), cfg, dryRun)
			if errors.Is(err, hold.ErrNotRunning) {
				g, err = collectAlone(cmd, cfg, dryRun)
			}
			if err != nil {
				return fmt.Errorf("garbage collection: %w", err)
			}
			printGarbage(cmd.OutOrStdout(), g)
			return nil
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only tell what would be removed")
	return cmd
}

func collectAlone(cmd *cobra.Command, cfg hold.Config, dryRun bool) (g hold.Garbage, err error) {
	s, err := hold.New(cmd.Context(), cfg, hold.Deps{Logger: logger(cmd.ErrOrStderr(), cfg), Version: version.Version})
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, s.Close(cmd.Context())) }()
	return s.CollectGarbage(cmd.Context(), dryRun)
}

func printGarbage(w io.Writer, g hold.Garbage) {
	verb := "removed"
	if g.DryRun {
		verb = "would remove"
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "users\t%d, of them left alone because their manifests cannot be read: %d\n", g.Users, g.Unreadable)
	fmt.Fprintf(t, "public manifests\t%d, of them found without a notification: %d\n", g.Manifests, g.Repaired)
	fmt.Fprintf(t, "manifests that are gone\t%d, %s %d layer records\n", g.Gone, verb, g.LayerRecords)
	fmt.Fprintf(t, "blobs of users\t%s %d\n", verb, g.Links)
	fmt.Fprintf(t, "objects in the storage\t%s %d, %s\n", verb, g.Blobs, humanize.IBytes(uint64(max(g.Bytes, 0))))
	fmt.Fprintf(t, "unknown objects\tkept %d: the database may have been lost, or be an older copy\n", g.Strays)
	_ = t.Flush()
}
