package hold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/dustin/go-humanize"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold/ledger"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/xrpc"
)

// tier is a quota by name.
type tier struct {
	Name  string
	Limit int64 // bytes of distinct layers; 0: none
}

// tiers are the configured quotas. Without any there are none.
type tiers struct {
	ranked     []tier // the lowest first
	newcomer   string
	plankowner string
}

// parseTiers reads the quotas of a configuration.
func parseTiers(c Config) (tiers, error) {
	var t tiers
	var errs []error
	for item := range strings.SplitSeq(c.QuotaTiers, ",") {
		name, size, limited := strings.Cut(strings.TrimSpace(item), "=")
		if name = strings.TrimSpace(name); name == "" && !limited {
			continue
		}
		one := tier{Name: name}
		if limited {
			bytes, err := humanize.ParseBytes(strings.TrimSpace(size))
			if err != nil || bytes == 0 || bytes > 1<<62 {
				errs = append(errs, fmt.Errorf("%s: %q: want a size such as 500MB, 2GB or 5GiB; leave =size out for no limit", names.HoldQuotaTiers, item))
			}
			one.Limit = int64(bytes)
		}
		if name == "" || len(name) > 32 || t.rank(name) >= 0 {
			errs = append(errs, fmt.Errorf("%s: %q: each tier needs a name of its own of at most 32 bytes", names.HoldQuotaTiers, item))
		}
		t.ranked = append(t.ranked, one)
	}
	for variable, name := range map[string]string{names.HoldNewCrewTier: c.NewCrewTier, names.HoldPlankownerCrewTier: c.PlankownerCrewTier} {
		if name != "" && t.rank(name) < 0 {
			errs = append(errs, fmt.Errorf("%s: %q is none of the tiers in %s", variable, name, names.HoldQuotaTiers))
		}
	}
	if len(t.ranked) > 0 {
		t.newcomer = cmp.Or(c.NewCrewTier, t.ranked[0].Name)
		t.plankowner = cmp.Or(c.PlankownerCrewTier, t.newcomer)
	}
	return t, errors.Join(errs...)
}

// rank is the place of a tier, -1 when there is none of that name.
func (t tiers) rank(name string) int {
	return slices.IndexFunc(t.ranked, func(o tier) bool { return o.Name == name })
}

// of is the tier of a crew member, which a record with an unknown tier does not choose.
func (t tiers) of(m crewMember) tier {
	if len(t.ranked) == 0 {
		return tier{}
	}
	for _, name := range []string{m.Tier, map[bool]string{true: t.plankowner}[m.Plankowner]} {
		if i := t.rank(name); i >= 0 {
			return t.ranked[i]
		}
	}
	return t.ranked[t.rank(t.newcomer)]
}

// tierOf is the tier that a DID has, or would have as a newcomer. The captain has no limit.
func (s *Server) tierOf(did syntax.DID) tier {
	if did == canonical(s.roster.get().Owner) {
		return tier{}
	}
	return s.tiers.of(s.roster.memberOf(did))
}

// quota is what getQuota answers: no limit means that there is none.
type quota struct {
	UserDID     syntax.DID `json:"userDid"`
	UniqueBlobs int64      `json:"uniqueBlobs"`
	TotalSize   int64      `json:"totalSize"`
	Limit       int64      `json:"limit,omitempty"`
	Tier        string     `json:"tier,omitempty"`
}

func (s *Server) quotaOf(ctx context.Context, did syntax.DID) (quota, error) {
	blobs, bytes, err := s.ledger.Usage(ctx, did, s.now())
	if err != nil {
		return quota{}, err
	}
	t := s.tierOf(did)
	return quota{UserDID: did, UniqueBlobs: blobs, TotalSize: bytes, Limit: t.Limit, Tier: t.Name}, nil
}

// getQuota answers io.atcr.hold.getQuota: what the manifests of a DID use, distinct layers and large
// configs once.
func (s *Server) getQuota(w http.ResponseWriter, r *http.Request) error {
	did, err := syntax.ParseDID(r.URL.Query().Get("userDid"))
	if err != nil {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidUserDid", "userDid must be a DID; add it.")
	}
	q, err := s.quotaOf(r.Context(), canonical(did))
	if err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, q)
	return nil
}

// listTiers answers io.atcr.hold.listTiers, the lowest first: a tier's place is the tierRank of updateCrewTier.
func (s *Server) listTiers(w http.ResponseWriter, _ *http.Request) error {
	type item struct {
		Name  string `json:"name"`
		Limit int64  `json:"limit,omitempty"`
	}
	list := []item{}
	for _, t := range s.tiers.ranked {
		list = append(list, item(t))
	}
	xrpc.WriteJSON(w, http.StatusOK, map[string]any{"tiers": list})
	return nil
}

func (s *Server) overQuota(did syntax.DID, used, needed, limit int64) error {
	bytes := func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
	return xrpc.Errorf(http.StatusForbidden, "QuotaExceeded", "%s uses %s of %s in this hold, and this needs %s more; delete manifests, or ask the captain %s for a higher tier.",
		did, bytes(used), bytes(limit), bytes(needed), s.roster.get().Owner).With("totalSize", used).With("needed", needed).With("limit", limit)
}

// reservationCounts is how long a manifest that was reserved and never pushed counts towards the quota, and keeps its
// blobs from being deleted on request.
const reservationCounts = 15 * time.Minute

// notifyHorizon is how long registries repeat a notification that a hold did not take: our own about eight days. A
// reserved manifest keeps its blobs for so long.
const notifyHorizon = 8 * 24 * time.Hour

// reserveManifest answers io.atcr.hold.reserveManifest, an extension that AppViews call before they make a manifest
// public: it checks that the caller has every blob of the manifest here in the size that the manifest says, and that
// they fit into the quota, together with what others reserve at the same time. The blobs stay until
// notifyManifest tells of the push, for at most notifyHorizon.
//
// Input {manifestDigest, config?: {digest, size}, layers?: [{digest, size}]}, output as of getQuota before the push.
// Errors: BlobNotFound {digest}, SizeMismatch {digest, size}, QuotaExceeded {totalSize, needed, limit}.
func (s *Server) reserveManifest(w http.ResponseWriter, r *http.Request) error {
	did, err := s.need(r, "io.atcr.hold.reserveManifest", blobWrite)
	if err != nil {
		return err
	}
	type blob struct {
		Digest string `json:"digest"`
		Size   int64  `json:"size"`
	}
	var in struct {
		Digest string `json:"manifestDigest"`
		Config *blob  `json:"config"`
		Layers []blob `json:"layers"`
	}
	if err := xrpc.ReadJSONOf(w, r, &in, xrpc.MaxManifest); err != nil {
		return err
	}
	manifest, err := storage.ParseDigest(in.Digest)
	if err != nil {
		return xrpc.Errorf(http.StatusBadRequest, "InvalidDigest", "manifestDigest must be of sha256 or sha512; correct it.").Because(err)
	}
	reservation := ledger.Reservation{DID: did, Manifest: manifest, Limit: s.tierOf(did).Limit, Counted: reservationCounts, Now: s.now()}
	add := func(b blob, layer bool) error {
		d, err := storage.ParseDigest(b.Digest)
		if err != nil || b.Size < 0 {
			return xrpc.Errorf(http.StatusBadRequest, "InvalidDigest", "Blobs need a digest of sha256 or sha512 and a size; correct them.").Because(err)
		}
		reservation.Blobs = append(reservation.Blobs, ledger.Blob{Digest: d, Size: b.Size, Layer: layer})
		return nil
	}
	for _, l := range in.Layers {
		if err := add(l, true); err != nil {
			return err
		}
	}
	if in.Config != nil {
		if err := add(*in.Config, false); err != nil {
			return err
		}
	}
	q, err := s.quotaOf(r.Context(), did)
	if err != nil {
		return err
	}
	if err := s.reserve(r.Context(), reservation); err != nil {
		return err
	}
	xrpc.WriteJSON(w, http.StatusOK, q)
	return nil
}

func (s *Server) reserve(ctx context.Context, in ledger.Reservation) error {
	err := s.ledger.Reserve(ctx, in)
	var missing *ledger.MissingBlob
	var other *ledger.OtherSize
	var over *ledger.OverQuota
	switch {
	case errors.As(err, &missing):
		return xrpc.Errorf(http.StatusNotFound, "BlobNotFound", "%s has no blob %s in this hold; push it again.", in.DID, missing.Digest).With("digest", missing.Digest)
	case errors.As(err, &other):
		return xrpc.Errorf(http.StatusBadRequest, "SizeMismatch", "The blob %s has %d bytes; build the manifest again.", other.Digest, other.Size).
			With("digest", other.Digest).With("size", other.Size)
	case errors.As(err, &over):
		s.metrics.refusals.Inc()
		return s.overQuota(in.DID, over.Used, over.Needed, over.Limit)
	}
	return err
}
