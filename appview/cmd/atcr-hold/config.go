package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/cobra"

	"atcr.io/operator/appview/config"
	"atcr.io/operator/appview/config/heap"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold"
	"atcr.io/operator/appview/observe"
)

func configCommand() *cobra.Command {
	conf := &cobra.Command{Use: "config", Short: "Look at the configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	conf.AddCommand(
		&cobra.Command{
			Use:   "check",
			Short: "Say what is in force and where it is from, and everything that is wrong with it",
			Long: `check reads the environment and the files that it names, prints every variable with its value and source (secrets
only as "(set)"), and lists all mistakes at once. It makes and changes nothing. Its exit code is 1 when the hold would not
start. It asks nobody over the network, S3 neither, and does not see whether another process has the addresses or the
directory.`,
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
				return config.PrintVariables(cmd.OutOrStdout(), names.HoldVariables)
			},
		})
	return conf
}

func check(ctx context.Context, out io.Writer, environ []string) error {
	vars := env.ToMap(environ)
	cfg, err := hold.LoadFrom(vars)
	if _, terr := observe.TracingWanted(func(name string) string { return vars[name] }); terr != nil {
		err = errors.Join(err, terr)
	}
	if perr := config.PrintSettings(out, config.Settings(names.HoldVariables, environ, nil)); perr != nil {
		return perr
	}
	if err != nil {
		return fmt.Errorf("the configuration is not valid:\n%w", err)
	}
	fmt.Fprintln(out)
	for _, w := range cfg.Warnings(vars) {
		fmt.Fprintln(out, "warning:", w)
	}
	if err := hold.Check(ctx, cfg); err != nil {
		return fmt.Errorf("the hold would not start:\n%w", err)
	}
	_, err = fmt.Fprintln(out, "The configuration is valid.")
	return err
}

// variables lists the environment for --help.
func variables() string {
	var b strings.Builder
	b.WriteString("Environment:\n")
	_ = config.PrintVariables(&b, names.HoldVariables) // into a builder, which takes all
	return b.String() + "\n" + observe.Help + "\n" + heap.Help
}
