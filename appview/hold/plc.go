package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/atproto/plc"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
)

// Files of a did:plc in the database directory. The genesis operation is on the disk before the directory sees it: a
// start that was cut off in between registers the same DID again, not a second one.
const (
	didFile     = "did.txt"
	genesisFile = "plc-genesis.json"
)

// identify finds out who the hold is. A did:web is made of the public URL. A did:plc is the recorded one (by the
// repository, else by did.txt), else the configured one, else a new one; its document is brought up to date.
func (s *Server) identify(ctx context.Context) error {
	u, err := publicURL(s.cfg.PublicURL)
	if err != nil {
		return err
	}
	key, err := loadKey(s.cfg.keyPath())
	if err != nil {
		return err
	}
	s.self = newSelf(u, key)
	recorded, err := s.recordedDID(ctx)
	if err != nil {
		return err
	}
	if s.self.did, err = s.cfg.identity(s.self.did, recorded); err != nil || s.cfg.DIDMethod == didMethodWeb {
		return err
	}
	if s.self.did == "" {
		if s.self.did, err = s.registerPLC(ctx); err != nil {
			return fmt.Errorf("make the hold's did:plc: %w", err)
		}
	}
	if err := s.syncPLC(ctx); err != nil {
		if !errors.Is(err, plc.ErrUnavailable) || !s.sameKey(ctx) {
			return fmt.Errorf("the document of %s: %w", s.self.did, err)
		}
		// Whoever knows the hold already can go on using it.
		s.log.WarnContext(ctx, "the DID document cannot be compared now; it is tried again", "did", s.self.did, "error", err)
		s.plcPending = true
	}
	return s.recordDID()
}

// identity is who a hold is whose public URL makes the did:web own, on a database directory that is bound to recorded:
// empty for a did:plc that is still to be made.
func (c Config) identity(own, recorded syntax.DID) (syntax.DID, error) {
	configured := syntax.DID(c.DID)
	switch {
	case c.DIDMethod == didMethodWeb && recorded != "" && recorded != own:
		return "", fmt.Errorf("the database directory belongs to %s, not to %s: set %s and %s back, or start on an empty directory",
			recorded, own, names.HoldPublicURL, names.HoldDIDMethod)
	case c.DIDMethod == didMethodWeb:
		return own, nil
	case recorded != "" && recorded.Method() != didMethodPLC:
		return "", fmt.Errorf("the database directory belongs to %s, which cannot become a did:plc: set %s=%s, or start on an empty directory",
			recorded, names.HoldDIDMethod, didMethodWeb)
	case recorded != "" && configured != "" && recorded != configured:
		return "", fmt.Errorf("the database directory belongs to %s, not to %s: set %s back, or start on an empty directory",
			recorded, configured, names.HoldDID)
	case recorded != "":
		return recorded, nil
	}
	return configured, nil
}

// recordedDID is the DID that this database directory is bound to; empty on a new one.
func (s *Server) recordedDID(ctx context.Context) (syntax.DID, error) {
	repos, _, err := s.engine.ListRepos(ctx, "", 1)
	if err != nil {
		return "", fmt.Errorf("open the hold's repository: %w", err)
	}
	if len(repos) == 0 {
		return s.cfg.boundTo("")
	}
	return s.cfg.boundTo(repos[0].DID)
}

// boundTo is the DID that did.txt and the repository, whose DID is empty when there is none, bind the database directory
// to.
func (c Config) boundTo(repo syntax.DID) (syntax.DID, error) {
	path := filepath.Join(c.DatabaseDir, didFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the hold's DID: %w", err)
	}
	noted := syntax.DID(strings.TrimSpace(string(b)))
	switch {
	case repo != "" && noted != "" && noted != repo:
		return "", fmt.Errorf("%s says %s, but the repository there is of %s: the files of two holds are mixed", path, noted, repo)
	case repo != "" || noted == "":
		return repo, nil
	}
	if _, err := syntax.ParseDID(noted.String()); err != nil {
		return "", fmt.Errorf("%s does not hold a DID; write the hold's DID into it", path)
	}
	return noted, nil
}

// recordDID binds the database directory to the hold's did:plc.
func (s *Server) recordDID() error {
	err := files.CreateOnce(filepath.Join(s.cfg.DatabaseDir, didFile), []byte(s.self.did+"\n"), 0o600)
	if err != nil {
		return fmt.Errorf("record the hold's DID: %w", err)
	}
	return nil
}

// sameKey says whether the repository is signed by the present key already.
func (s *Server) sameKey(ctx context.Context) bool {
	old, err := s.engine.SigningKey(ctx, s.self.did)
	return err == nil && old.Equal(s.self.key)
}

func (s *Server) plcDirectory() plc.Client {
	return plc.Client{URL: s.cfg.PLCURL, HTTP: diddoc.NewClient(s.cfg.policy().ForOperator(true), diddoc.Options{})}
}

// registerPLC makes a did:plc, which a rotation key in a file of its own controls.
func (s *Server) registerPLC(ctx context.Context) (syntax.DID, error) {
	path := filepath.Join(s.cfg.DatabaseDir, genesisFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = s.makeGenesis(path)
	}
	if err != nil {
		return "", err
	}
	var op plc.Operation
	if err := json.Unmarshal(raw, &op); err != nil || op.SignedByOne(op.RotationKeys) != nil {
		return "", fmt.Errorf("%s is not a signed PLC operation; remove it to have a new DID made", path)
	}
	did, err := op.DID()
	if err != nil {
		return "", err
	}
	err = s.plcDirectory().Submit(ctx, did, op)
	if errors.Is(err, plc.ErrRefused) { // as it is when a start before this one got so far
		if _, known := s.plcDirectory().Last(ctx, did); known == nil {
			err = nil
		}
	}
	if err != nil {
		return "", err
	}
	s.log.InfoContext(ctx, "the hold has a did:plc; keep its rotation key safe, it is the only way to move the hold",
		"did", did, "rotationKey", s.cfg.rotationKeyPath())
	return did, nil
}

func (s *Server) makeGenesis(path string) ([]byte, error) {
	rotation, err := loadOrMakeKey("rotation key", s.cfg.rotationKeyPath())
	if err != nil {
		return nil, err
	}
	pub, err := rotation.PublicKey()
	if err != nil {
		return nil, err
	}
	op, err := s.describe(plc.Operation{Type: plc.TypeOperation, RotationKeys: []string{pub.DIDKey()}})
	if err != nil {
		return nil, err
	}
	if err := op.Sign(rotation); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(op)
	if err != nil {
		return nil, err
	}
	if err := files.CreateOnce(path, raw, 0o600); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// describe says in an operation who the hold is now. What others put there stays.
func (s *Server) describe(op plc.Operation) (plc.Operation, error) {
	pub, err := s.self.key.PublicKey()
	if err != nil {
		return op, fmt.Errorf("public key of the hold: %w", err)
	}
	op.Prev, op.Sig = nil, ""
	op.VerificationMethods = maps.Clone(op.VerificationMethods)
	if op.VerificationMethods == nil {
		op.VerificationMethods = map[string]string{}
	}
	op.VerificationMethods[diddoc.KeyAtproto] = pub.DIDKey()
	op.Services = maps.Clone(op.Services)
	if op.Services == nil {
		op.Services = map[string]plc.Service{}
	}
	op.Services[diddoc.ServicePDS] = plc.Service{Type: diddoc.TypePDS, Endpoint: s.self.url}
	op.Services[diddoc.ServiceHold] = plc.Service{Type: diddoc.TypeHold, Endpoint: s.self.url}
	names := []string{"at://" + s.self.handle}
	for _, name := range op.AlsoKnownAs {
		if !strings.HasPrefix(name, "at://") {
			names = append(names, name)
		}
	}
	op.AlsoKnownAs = names
	return op, nil
}

// syncPLC brings the DID document up to date: key, endpoint and handle.
func (s *Server) syncPLC(ctx context.Context) error {
	last, err := s.plcDirectory().Last(ctx, s.self.did)
	if err != nil {
		return err
	}
	want, err := s.describe(last)
	if err != nil || want.Same(last) {
		return err
	}
	rotation, err := readKey("rotation key", s.cfg.rotationKeyPath())
	if errors.Is(err, fs.ErrNotExist) {
		if works(last, want) {
			s.log.WarnContext(ctx, "the DID document lacks the hold's service or handle, and there is no rotation key to add them",
				"did", s.self.did, "rotationKey", s.cfg.rotationKeyPath())
			return nil
		}
		return fmt.Errorf("it names another key or URL than this hold's, and the rotation key %s is not there to change it: put it back, or restore the signing key and %s",
			s.cfg.rotationKeyPath(), names.HoldPublicURL)
	}
	if err != nil {
		return err
	}
	pub, err := rotation.PublicKey()
	if err != nil {
		return err
	}
	if !slices.Contains(last.RotationKeys, pub.DIDKey()) {
		return fmt.Errorf("it names another key or URL than this hold's, and %s is none of its rotation keys: put the right one there", s.cfg.rotationKeyPath())
	}
	prev, err := last.CID()
	if err != nil {
		return err
	}
	want.Prev = &prev
	if err := want.Sign(rotation); err != nil {
		return err
	}
	if err := s.plcDirectory().Submit(ctx, s.self.did, want); err != nil {
		return err
	}
	s.plcChanged = true
	s.log.InfoContext(ctx, "the DID document was updated", "did", s.self.did, "url", s.self.url)
	return nil
}

// works says whether those who read the document find this hold and believe its signatures.
func works(last, want plc.Operation) bool {
	return last.VerificationMethods[diddoc.KeyAtproto] == want.VerificationMethods[diddoc.KeyAtproto] &&
		last.Services[diddoc.ServicePDS].Endpoint == want.Services[diddoc.ServicePDS].Endpoint
}

// retryPLC repeats what the start could not do while the directory was unavailable.
func (s *Server) retryPLC(ctx context.Context) {
	retry(ctx, func() bool {
		err := s.syncPLC(ctx)
		switch {
		case err == nil:
			s.announce(ctx)
			return true
		case errors.Is(err, plc.ErrUnavailable):
			return false
		}
		s.log.ErrorContext(ctx, "the DID document cannot be updated", "did", s.self.did, "error", err)
		return true
	})
}

// announce tells the subscribers of the firehose to read the DID document again, if it changed.
func (s *Server) announce(ctx context.Context) {
	if !s.plcChanged {
		return
	}
	s.plcChanged = false
	if err := s.engine.AnnounceIdentity(ctx, s.self.did, s.self.handle); err != nil {
		s.log.ErrorContext(ctx, "announcing the DID document", "error", err)
	}
}

// Waits between repeated attempts.
const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Minute
)

// retry repeats do until it is done or the context ends, with growing waits.
func retry(ctx context.Context, do func() (done bool)) {
	for wait := firstRetry; !do(); wait = min(2*wait, lastRetry) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
