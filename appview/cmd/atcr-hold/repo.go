package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"atcr.io/operator/appview/config/version"
	"atcr.io/operator/appview/hold"
)

func repoCommand() *cobra.Command {
	repo := &cobra.Command{
		Use:   "repo",
		Short: "Export or import the hold's repository as a CAR file",
		Long: `The repository has the records of a hold: captain, crew, layers, statistics. It has neither the blobs of images,
which are in the storage, nor keys, nor what only the ledger knows. To restore a whole hold, keep its database directory.`,
	}
	repo.AddCommand(&cobra.Command{
		Use:   "export [file]",
		Short: "Write the repository to a new file, or to standard output",
		Long: `Writes the hold's repository, of a running hold or a stopped one, in the environment of serve. A file is complete and
on the disk when the command ends with 0, and is not made otherwise. A file that exists is not replaced.`,
		Args: cobra.MaximumNArgs(1),
		RunE: exportRepo,
	})
	var opts hold.ImportOptions
	imports := &cobra.Command{
		Use:   "import <file>",
		Short: "Make a CAR file the repository of a stopped hold; - is standard input",
		Long: `Imports a repository into a new hold, in one commit, in the environment of serve. The hold must not run. The file must be
whole, of this hold's DID, and signed by the key that its key file or its DID document names. The blobs of layers belong
to their users again. Nothing is changed when the command fails, but for what repeating it does again.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return importRepo(cmd, args[0], opts) },
	}
	imports.Flags().BoolVar(&opts.Replace, "force", false,
		"replace a repository that has records; it is exported into the database directory before")
	imports.Flags().StringVar(&opts.SigningKey, "signing-key", "", "a did:key that signed the file, when the hold's key is lost")
	repo.AddCommand(imports)
	return repo
}

func exportRepo(cmd *cobra.Command, args []string) error {
	cfg, err := hold.Load()
	if err != nil {
		return err
	}
	write := func(w io.Writer) error {
		err := hold.ExportRepo(cmd.Context(), cfg, hold.Deps{}, w)
		if !errors.Is(err, hold.ErrInUse) {
			return err
		}
		admin, err := hold.NewAdmin(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		return admin.Export(cmd.Context(), w)
	}
	if len(args) == 0 || args[0] == "-" {
		return write(cmd.OutOrStdout())
	}
	return writeNew(args[0], write)
}

// writeNew makes a file that does not exist, whole or not at all.
func writeNew(path string, write func(io.Writer) error) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // a leftover is harmless
	if err := errors.Join(write(tmp), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil { // fails when the name exists, where a rename would replace it
		return fmt.Errorf("%s exists already, or cannot be made: %w", path, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func importRepo(cmd *cobra.Command, path string, opts hold.ImportOptions) error {
	cfg, err := hold.Load()
	if err != nil {
		return err
	}
	car := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		car = f
	}
	report, err := hold.ImportRepo(cmd.Context(), cfg, hold.Deps{Logger: logger(cmd.ErrOrStderr(), cfg), Version: version.Version}, car, opts)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "imported %d records of %s, %d of them layers\n", report.Records, report.DID, report.Layers)
	if report.Former != "" {
		fmt.Fprintf(out, "the former repository is in %s\n", report.Former)
	}
	if report.Missing > 0 {
		fmt.Fprintf(out, "%d blobs of records (avatars, scan reports) are not in CAR files: upload them again by com.atproto.repo.uploadBlob\n", report.Missing)
	}
	return nil
}
