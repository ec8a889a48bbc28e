package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
)

// schemaCommand is what an operator asks an image before a server of it takes the place of the one that runs.
func schemaCommand() *cobra.Command {
	var have int64
	cmd := &cobra.Command{
		Use:   names.CommandSchema,
		Short: "Say which schema of the SQLite database this release brings",
		Long: `Prints the version of the schema that this release brings a SQLite database to when it starts. With --` + names.FlagDatabaseHas + ` it fails
if a database of that version is of a newer release, which this one refuses.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			defer func() { err = errors.Join(err, leave(os.Getenv(names.TerminationLog), err)) }()
			known, err := store.CheckSchema(have)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), known)
			return err
		},
	}
	cmd.Flags().Int64Var(&have, names.FlagDatabaseHas, 0, "version of the schema that a database has")
	return cmd
}
