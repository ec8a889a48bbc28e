package hold

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/pds"
)

// ErrInUse: a running hold has the database directory.
var ErrInUse = errors.New("another hold uses the database directory")

// ExportRepo writes the hold's repository as a CAR file, without a running hold ([ErrInUse]; ask that one by
// com.atproto.sync.getRepo).
func ExportRepo(ctx context.Context, cfg Config, deps Deps, w io.Writer) error {
	s, err := openStopped(ctx, cfg, deps)
	if err != nil {
		return err
	}
	recorded, err := s.recordedDID(ctx)
	if err == nil && recorded == "" {
		err = fmt.Errorf("%s has no hold yet: nothing to export", cfg.DatabaseDir)
	}
	if err == nil {
		err = s.engine.WriteRepoCAR(ctx, recorded, "", w)
	}
	return errors.Join(err, s.Close(ctx))
}

// ImportOptions of ImportRepo.
type ImportOptions struct {
	// SigningKey is a did:key that signed the repository, besides those that the hold's key file and its DID document name.
	SigningKey string
	// Replace a repository that has more than a new hold's. It is exported into the database directory before.
	Replace bool
}

// ImportReport is what an import did.
type ImportReport struct {
	DID     syntax.DID
	Records int
	Layers  int    // of Records, those by which the ledger knows blobs again
	Missing int    // blobs of records that a CAR file does not have: avatars, scan reports
	Former  string // file with the repository that was replaced; empty when there was none
}

// ImportRepo makes a CAR file the repository of a hold that does not run ([ErrInUse]), in one commit. The file must be
// whole, of this hold's DID and signed by its key. The blobs that layer records name belong to their users again.
func ImportRepo(ctx context.Context, cfg Config, deps Deps, car io.Reader, opts ImportOptions) (report ImportReport, err error) {
	in, err := pds.ReadRepoCAR(ctx, car)
	if err != nil {
		return report, err
	}
	s, err := openStopped(ctx, cfg, deps)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	if err := s.knowForImport(ctx, syntax.DID(in.Commit.DID)); err != nil {
		return report, err
	}
	if err := s.signedByHold(ctx, in, opts.SigningKey); err != nil {
		return report, err
	}
	report = ImportReport{DID: s.self.did}
	empty, err := s.isNew(ctx)
	switch {
	case err != nil:
		return report, err
	case !empty && !opts.Replace:
		return report, fmt.Errorf("the hold in %s has records already; import into an empty directory, or replace them", cfg.DatabaseDir)
	case !empty:
		if report.Former, err = s.keepFormer(ctx); err != nil {
			return report, fmt.Errorf("export the repository that is to be replaced: %w", err)
		}
	}
	// The ledger first: an import that is cut off in between can be repeated.
	report.Layers, err = s.restoreLayers(ctx, func(yield func(pds.Record, error) bool) {
		for r := range in.Records() {
			report.Records++
			if r.Collection == layerCollection && !yield(r, nil) {
				return
			}
		}
	})
	if err != nil {
		return report, err
	}
	if s.self.did.Method() == didMethodPLC {
		if err := s.recordDID(); err != nil {
			return report, err
		}
	}
	if s.self.key, err = loadKey(cfg.keyPath()); err != nil {
		return report, err
	}
	if _, err := s.engine.ImportRepo(ctx, pds.NewRepo{DID: s.self.did, Key: s.self.key, Handle: s.self.handle}, in); err != nil {
		return report, err
	}
	missing, err := s.engine.MissingBlobs(ctx, s.self.did)
	report.Missing = len(missing)
	return report, err
}

// openStopped opens the databases of a hold that does not run. The caller closes it.
func openStopped(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	s, err := newServer(cfg, deps)
	if err != nil {
		return nil, err
	}
	if err := s.openDatabases(ctx); err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

// knowForImport finds out who the hold is, without a network and without making anything: on a new directory a did:plc
// is the import's.
func (s *Server) knowForImport(ctx context.Context, imported syntax.DID) error {
	u, err := publicURL(s.cfg.PublicURL)
	if err != nil {
		return err
	}
	s.self = newSelf(u, nil)
	recorded, err := s.recordedDID(ctx)
	if err != nil {
		return err
	}
	did := s.self.did
	if s.cfg.DIDMethod == didMethodPLC {
		did = imported
		if s.cfg.DID != "" {
			did = syntax.DID(s.cfg.DID)
		}
	}
	if recorded != "" {
		did = recorded
	}
	if did != imported || did.Method() != s.cfg.DIDMethod {
		return fmt.Errorf("the CAR file is the repository of %s, but this hold is %s: check %s, %s and %s",
			imported, did, names.HoldPublicURL, names.HoldDIDMethod, names.HoldDID)
	}
	s.self.did = did
	return nil
}

// signedByHold checks that the key file, the DID document or the option names the key that signed the import.
func (s *Server) signedByHold(ctx context.Context, in *pds.Import, option string) error {
	var keys []atcrypto.PublicKey
	if option != "" {
		key, err := atcrypto.ParsePublicDIDKey(option)
		if err != nil {
			return fmt.Errorf("the signing key must be a did:key: %w", err)
		}
		keys = append(keys, key)
	}
	own, err := readKey("key", s.cfg.keyPath())
	switch {
	case err == nil:
		pub, err := own.PublicKey()
		if err != nil {
			return err
		}
		keys = append(keys, pub)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	published, failed := s.publishedKey(ctx)
	if failed == nil {
		keys = append(keys, published)
	}
	for _, key := range keys {
		if in.Commit.VerifySignature(key) == nil {
			return nil
		}
	}
	why := "none of them signed it"
	if failed != nil {
		why += fmt.Sprintf(" (the DID document cannot be read: %v)", failed)
	}
	return fmt.Errorf("the CAR file must be signed by the key in %s, in the DID document of %s, or named by --signing-key: %s; put the hold's key back",
		s.cfg.keyPath(), s.self.did, why)
}

// publishedKey is the key that the hold's DID document names.
func (s *Server) publishedKey(ctx context.Context) (atcrypto.PublicKey, error) {
	if s.self.did.Method() == didMethodPLC {
		last, err := s.plcDirectory().Last(ctx, s.self.did)
		if err != nil {
			return nil, err
		}
		return atcrypto.ParsePublicDIDKey(last.VerificationMethods[diddoc.KeyAtproto])
	}
	doc, err := diddoc.FetchWebDocument(ctx, diddoc.NewClient(s.cfg.policy().ForOperator(true), diddoc.Options{}), s.self.did.String(), s.self.url)
	if err != nil {
		return nil, err
	}
	_, multibase, ok := diddoc.SigningKey(doc)
	if !ok {
		return nil, errors.New("it names no key")
	}
	return atcrypto.ParsePublicMultibase(multibase)
}

// isNew says whether the repository is absent, or has no more than its first start wrote.
func (s *Server) isNew(ctx context.Context) (bool, error) {
	has, err := s.engine.HasRepo(ctx, s.self.did)
	if err != nil || !has {
		return !has, err
	}
	collections, err := s.engine.Collections(ctx, s.self.did)
	if err != nil {
		return false, err
	}
	for _, c := range collections {
		if c != captainCollection && c != crewCollection {
			return false, nil
		}
	}
	for rec, err := range s.engine.Records(ctx, s.self.did, crewCollection) {
		var m crewMember
		if err != nil || decode(rec.Value, &m) != nil || m.Role != roleOwner {
			return false, err
		}
	}
	return true, nil
}

// keepFormer exports the repository that is to be replaced, and returns the file.
func (s *Server) keepFormer(ctx context.Context) (string, error) {
	head, err := s.engine.LatestCommit(ctx, s.self.did)
	if err != nil {
		return "", err
	}
	var car bytes.Buffer
	if err := s.engine.WriteRepoCAR(ctx, s.self.did, "", &car); err != nil {
		return "", err
	}
	path := filepath.Join(s.cfg.DatabaseDir, "before-import-"+head.Rev.String()+".car")
	return path, files.CreateOnce(path, car.Bytes(), 0o600)
}
