package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/spf13/cobra"

	"atcr.io/operator/appview/hold"
)

func crewCommand() *cobra.Command {
	crew := &cobra.Command{
		Use:   "crew",
		Short: "List and change who may use a running hold",
		Long: `Changes the crew of the hold that runs on this machine, in the environment of serve: it is called at HOLD_HTTP_ADDR, in
its own name, by a token that the hold's key file signs. What changes takes effect at once. From elsewhere the captain
and admins do the same by com.atproto.repo.applyWrites and a service token of their PDS.

Members are named by DID or handle.`,
	}
	crew.AddCommand(&cobra.Command{
		Use: "list", Short: "List all crew records", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listCrew(cmd) },
	})

	var role string
	var permissions []string
	add := &cobra.Command{
		Use: "add <member>", Short: "Add a member, or give one that is there another role and permissions", Args: cobra.ExactArgs(1),
		RunE: member(func(cmd *cobra.Command, admin *hold.Admin, did syntax.DID, _ []string) error {
			added, err := admin.SetMember(cmd.Context(), did, role, permissions)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", map[bool]string{true: "added", false: "changed"}[added], did, strings.Join(permissions, ", "))
			}
			return err
		}),
	}
	add.Flags().StringVar(&role, "role", "member", "member, read, write or admin; only a name")
	add.Flags().StringSliceVar(&permissions, "permissions", []string{"blob:read", "blob:write"},
		"blob:read, blob:write (implies blob:read), crew:admin (implies all)")
	crew.AddCommand(add)

	crew.AddCommand(&cobra.Command{
		Use: "remove <member>", Short: "Take a member out of the crew", Args: cobra.ExactArgs(1),
		RunE: member(func(cmd *cobra.Command, admin *hold.Admin, did syntax.DID, _ []string) error {
			err := admin.RemoveMember(cmd.Context(), did)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", did)
			}
			return err
		}),
	}, &cobra.Command{
		Use: "set-tier <member> <tier>", Short: "Give a member a quota tier of HOLD_QUOTA_TIERS", Args: cobra.ExactArgs(2),
		RunE: member(func(cmd *cobra.Command, admin *hold.Admin, did syntax.DID, args []string) error {
			err := admin.SetTier(cmd.Context(), did, args[1])
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s has tier %s\n", did, args[1])
			}
			return err
		}),
	})
	return crew
}

// member runs a command about the member that its first argument names.
func member(do func(*cobra.Command, *hold.Admin, syntax.DID, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		admin, cfg, err := admin(cmd.Context())
		if err != nil {
			return err
		}
		did, err := hold.ResolveMember(cmd.Context(), cfg, args[0])
		if err != nil {
			return err
		}
		return do(cmd, admin, did, args)
	}
}

func admin(ctx context.Context) (*hold.Admin, hold.Config, error) {
	cfg, err := hold.Load()
	if err != nil {
		return nil, cfg, err
	}
	a, err := hold.NewAdmin(ctx, cfg)
	return a, cfg, err
}

func listCrew(cmd *cobra.Command) error {
	a, _, err := admin(cmd.Context())
	if err != nil {
		return err
	}
	crew, err := a.Crew(cmd.Context())
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MEMBER\tROLE\tPERMISSIONS\tTIER\tADDED")
	for _, m := range crew {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", cmp.Or(m.DID.String(), "(unreadable record)"), m.Role, strings.Join(m.Permissions, ","), cmp.Or(m.Tier, "-"), m.AddedAt)
	}
	return t.Flush()
}
