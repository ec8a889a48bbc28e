package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server"
)

func configCommand() *cobra.Command {
	conf := &cobra.Command{Use: "config", Short: "Look at the configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	conf.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Say what is in force and where it is from, and everything that is wrong with it",
			Long: `check reads the environment and the files that it names, prints every variable with its value and source (secrets
only as "(set)"), and lists all mistakes at once. It makes and changes nothing. Its exit code is 1 when the server would
not start. It asks nobody over the network, and does not see whether another process has the addresses or the database.`,
			Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return check(cmd.Context(), cmd.OutOrStdout(), os.Environ())
			},
		},
		&cobra.Command{
			Use:   "list",
			Short: "List every variable and what it does",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return config.PrintVariables(cmd.OutOrStdout(), names.AppView)
			},
		})
	return conf
}

// check never prints a value that may be secret.
func check(ctx context.Context, out io.Writer, environ []string) error {
	cfg, err := config.Load(environ)
	derived := map[string]string{}
	if err == nil {
		derived[names.BaseURL], derived[names.ServiceName] = cfg.BaseURL, cfg.ServiceName
	}
	if err := config.PrintSettings(out, config.Settings(names.AppView, environ, derived)); err != nil {
		return err
	}
	if err != nil {
		return fmt.Errorf("the configuration is not valid:\n%w", err)
	}
	fmt.Fprintln(out)
	for _, w := range cfg.Warnings {
		fmt.Fprintln(out, "warning:", w)
	}
	keys, now, err := server.Check(ctx, cfg)
	describe(out, cfg, keys, now)
	if err != nil {
		return fmt.Errorf("the server would not start:\n%w", err)
	}
	_, err = fmt.Fprintln(out, "The configuration is valid.")
	return err
}

// describe says what the files hold; keys and now are nil for those that could not be read, or would be made.
func describe(out io.Writer, cfg *config.Config, keys *auth.KeySet, now *config.Snapshot) {
	if _, err := os.Stat(cfg.AuthKeyPath); keys != nil {
		fmt.Fprintf(out, "token keys: %s signs, %d verify, hash %s\n", keys.SignerKID(), len(keys.KIDs()), keys.Hash())
	} else if errors.Is(err, fs.ErrNotExist) && !cfg.AuthKeyRequired {
		fmt.Fprintf(out, "token keys: one will be made at %s\n", cfg.AuthKeyPath)
	}
	if now != nil && cfg.RuntimeFile != "" {
		fmt.Fprintf(out, "runtime file: %d holds, default hold %s, hash %s\n", len(now.Holds), now.DefaultHoldDID, now.Hash)
		if now.DefaultHoldDID == "" {
			fmt.Fprintf(out, "warning: neither %s nor the runtime file names a default hold: users whose profile names none cannot push\n", names.DefaultHoldDID)
		}
	}
	if cfg.BackupDir != "" && cfg.SQLitePath() != "" {
		if err := files.CheckWritable(cfg.BackupDir); err != nil {
			fmt.Fprintf(out, "warning: %s: %v; the server starts, and makes no backups\n", names.BackupDir, err)
		}
	}
}
