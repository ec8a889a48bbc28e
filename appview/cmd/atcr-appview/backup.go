package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store/backup"
)

func backupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "backup", Short: "Back up the SQLite database, and restore it", Args: cobra.NoArgs,
		Long: `The database is that of ATCR_UI_DATABASE_PATH, the directory of backups that of ATCR_BACKUP_DIR. A PostgreSQL has its own
backups.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "now",
			Short: "Make a backup now, also of a running server, and remove those that ATCR_BACKUP_KEEP does not keep",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := sqliteConfig()
				if err != nil {
					return err
				}
				f, err := backup.Dir{Path: cfg.BackupDir, Keep: cfg.BackupKeep}.Make(cmd.Context(), cfg.UIDatabasePath, time.Now())
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), f.Path)
				return err
			},
		},
		&cobra.Command{
			Use:   "list",
			Short: "List the backups, the newest first",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := sqliteConfig()
				if err != nil {
					return err
				}
				all, err := backup.Dir{Path: cfg.BackupDir}.List()
				if err != nil {
					return err
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "TIME\tBYTES\tFILE")
				for _, f := range all {
					fmt.Fprintf(w, "%s\t%d\t%s\n", f.Time.Format(time.RFC3339), f.Size, f.Path)
				}
				return w.Flush()
			},
		},
		&cobra.Command{
			Use:   "restore FILE",
			Short: "Put a backup in place of the database, which is kept beside it; stop the server first",
			Long: `FILE is one that list names, or "latest" for the newest. A backup that is damaged, or that a newer release made, is
refused, and so is a restore while a server uses the database.`,
			Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				cfg, err := sqliteConfig()
				if err != nil {
					return err
				}
				file := args[0]
				if file == "latest" {
					if file, err = latest(cfg.BackupDir); err != nil {
						return err
					}
				}
				kept, err := backup.Restore(cmd.Context(), file, cfg.UIDatabasePath, time.Now())
				if err != nil {
					return err
				}
				if kept != "" {
					fmt.Fprintln(cmd.OutOrStdout(), "the database that was there is now", kept)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "restored", cfg.UIDatabasePath, "from", file)
				return err
			},
		})
	return cmd
}

// latest is the newest backup.
func latest(dir string) (string, error) {
	all, err := backup.Dir{Path: dir}.List()
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", fmt.Errorf("there is no backup in %s", dir)
	}
	return all[0].Path, nil
}

// sqliteConfig is the configuration of a server with a SQLite file. Only the database matters: a default hold need not be
// named.
func sqliteConfig() (*config.Config, error) {
	environ := os.Environ()
	if os.Getenv(names.DefaultHoldDID) == "" && os.Getenv(names.RuntimeFile) == "" {
		environ = append(environ, names.RuntimeFile+"=unused")
	}
	cfg, err := config.Load(environ)
	switch {
	case err != nil:
		return nil, err
	case cfg.DatabaseURL != "" || cfg.DatabaseDir != "":
		return nil, errors.New("this server uses PostgreSQL: back it up with its own tools")
	case cfg.BackupDir == "":
		return nil, fmt.Errorf("%s is not set: name the directory of backups", names.BackupDir)
	}
	return cfg, nil
}
