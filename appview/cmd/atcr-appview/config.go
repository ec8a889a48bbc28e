package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"atcr.io/operator/appview/auth"
	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
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
not start.`,
			Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return check(cmd.OutOrStdout(), os.Environ()) },
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
func check(out io.Writer, environ []string) error {
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
	if err := checkFiles(out, cfg); err != nil {
		return fmt.Errorf("the server would not start:\n%w", err)
	}
	_, err = fmt.Fprintln(out, "The configuration is valid.")
	return err
}

// checkFiles says what the files hold, and all that is wrong with them.
func checkFiles(out io.Writer, cfg *config.Config) error {
	var errs []error
	keys, err := auth.CheckKeys(auth.KeyFiles{KeyPath: cfg.AuthKeyPath, CertPath: cfg.AuthCertPath, Service: cfg.ServiceName,
		Kind: cfg.AuthKeyType, Required: cfg.AuthKeyRequired})
	switch {
	case err != nil:
		errs = append(errs, err)
	case keys != nil:
		fmt.Fprintf(out, "token keys: %s signs, %d verify, hash %s\n", keys.SignerKID(), len(keys.KIDs()), keys.Hash())
	default:
		fmt.Fprintf(out, "token keys: one will be made at %s\n", cfg.AuthKeyPath)
		errs = append(errs, writable(names.AuthKeyPath, filepath.Dir(cfg.AuthKeyPath)))
	}
	errs = append(errs, cfg.CheckSealingKey())
	if cfg.Shared() {
		errs = append(errs, store.CheckPostgres(store.Options{URL: cfg.DatabaseURL, Dir: cfg.DatabaseDir, SSLMode: cfg.DatabaseSSLMode, CAFile: cfg.DatabaseCAFile}))
	}
	if rt, err := config.OpenRuntime(cfg, slog.New(slog.DiscardHandler)); err != nil {
		errs = append(errs, err)
	} else if now := rt.Current(); cfg.RuntimeFile != "" {
		fmt.Fprintf(out, "runtime file: %d holds, default hold %s, hash %s\n", len(now.Holds), now.DefaultHoldDID, now.Hash)
		if now.DefaultHoldDID == "" {
			fmt.Fprintf(out, "warning: neither %s nor the runtime file names a default hold: users whose profile names none cannot push\n", names.DefaultHoldDID)
		}
	}
	if cfg.SQLitePath() != "" {
		errs = append(errs, writable(names.UIDatabasePath, filepath.Dir(cfg.UIDatabasePath)))
	}
	return errors.Join(errs...)
}

func writable(name, dir string) error {
	if err := files.CheckWritable(dir); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
