package hold

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/hold/xrpc"
)

// Admin calls a running hold on the same machine in the hold's own name: its service tokens are signed by the hold's
// key file. Whoever can read that file may do what the captain may.
type Admin struct {
	DID syntax.DID

	base string
	key  atcrypto.PrivateKey
	http *http.Client
}

// adminTokenLife of one call.
const adminTokenLife = time.Minute

// NewAdmin finds the hold of this configuration at its listen address.
func NewAdmin(ctx context.Context, cfg Config) (*Admin, error) {
	key, err := readKey("key", cfg.keyPath())
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(cfg.HTTPAddr)
	if err != nil {
		return nil, fmt.Errorf("HOLD_HTTP_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	// No timeout on whole answers: an export takes as long as it moves.
	a := &Admin{base: "http://" + net.JoinHostPort(host, port), key: key, http: &http.Client{}}
	resp, err := a.do(ctx, http.MethodGet, "/.well-known/atproto-did", "", nil)
	if err != nil {
		return nil, fmt.Errorf("no hold answers at %s: start it first: %w", a.base, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return nil, fmt.Errorf("ask the hold for its DID: %w", err)
	}
	if a.DID, err = syntax.ParseDID(string(b)); err != nil {
		return nil, fmt.Errorf("what answers at %s is no hold", a.base)
	}
	return a, nil
}

// Query calls a query and decodes its answer into out.
func (a *Admin) Query(ctx context.Context, method syntax.NSID, params url.Values, out any) error {
	return a.call(ctx, http.MethodGet, method, "?"+params.Encode(), nil, out)
}

// Procedure calls a procedure with in and decodes its answer into out, which may be nil.
func (a *Admin) Procedure(ctx context.Context, method syntax.NSID, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return a.call(ctx, http.MethodPost, method, "", b, out)
}

// Export writes the hold's repository as a CAR file.
func (a *Admin) Export(ctx context.Context, w io.Writer) error {
	resp, err := a.do(ctx, http.MethodGet, "/xrpc/com.atproto.sync.getRepo?did="+url.QueryEscape(a.DID.String()), "", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("read the repository: %w", err)
	}
	return nil
}

func (a *Admin) call(ctx context.Context, verb string, method syntax.NSID, query string, in []byte, out any) error {
	token, err := auth.SignServiceAuth(a.DID, a.DID.String(), adminTokenLife, &method, a.key)
	if err != nil {
		return fmt.Errorf("sign a token: %w", err)
	}
	resp, err := a.do(ctx, verb, "/xrpc/"+method.String()+query, token, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, xrpc.MaxJSON)).Decode(out); err != nil {
		return fmt.Errorf("%s: read the answer: %w", method, err)
	}
	return nil
}

// do sends a request; what is not a 2xx is an error with the hold's own sentence.
func (a *Admin) do(ctx context.Context, verb, path, token string, in []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, verb, a.base+path, bytes.NewReader(in))
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var refusal struct{ Error, Message string }
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&refusal) != nil || refusal.Message == "" {
		return nil, fmt.Errorf("the hold answers %s", resp.Status)
	}
	return nil, errors.New(refusal.Message)
}

// Member is one member of the crew.
type Member struct {
	DID         syntax.DID
	Role        string
	Permissions []string
	Tier        string
	AddedAt     string

	uri    syntax.ATURI
	record map[string]any
}

// Crew lists all crew records; a member may have more than one.
func (a *Admin) Crew(ctx context.Context) ([]Member, error) {
	var crew []Member
	for cursor := ""; ; {
		params := url.Values{"repo": {a.DID.String()}, "collection": {crewCollection.String()}, "limit": {"100"}, "reverse": {"true"}}
		if cursor != "" {
			params.Set("cursor", cursor)
		}
		var page struct {
			Cursor  string
			Records []struct {
				URI   syntax.ATURI
				Value map[string]any
			}
		}
		if err := a.Query(ctx, "com.atproto.repo.listRecords", params, &page); err != nil {
			return nil, fmt.Errorf("list the crew: %w", err)
		}
		for _, r := range page.Records {
			m := Member{uri: r.URI, record: r.Value}
			if v, err := readMember(r.Value); err == nil {
				m.DID, m.Role, m.Tier, m.AddedAt = canonical(v.Member), v.Role, v.Tier, v.AddedAt
				for _, p := range v.Permissions {
					m.Permissions = append(m.Permissions, string(p))
				}
			}
			crew = append(crew, m)
		}
		if page.Cursor == "" || len(page.Records) == 0 {
			return crew, nil
		}
		cursor = page.Cursor
	}
}

// records of one member.
func (a *Admin) records(ctx context.Context, did syntax.DID) ([]Member, error) {
	crew, err := a.Crew(ctx)
	var found []Member
	for _, m := range crew {
		if m.DID == canonical(did) {
			found = append(found, m)
		}
	}
	return found, err
}

// SetMember gives somebody a role and permissions; a member that is there keeps the rest of its record. It says whether
// the member is new.
func (a *Admin) SetMember(ctx context.Context, did syntax.DID, role string, permissions []string) (added bool, err error) {
	for _, p := range permissions {
		switch permission(p) {
		case blobRead, blobWrite, crewAdmin:
		default:
			return false, fmt.Errorf("%q is no permission: want %s, %s or %s", p, blobRead, blobWrite, crewAdmin)
		}
	}
	if role == roleOwner {
		return false, errors.New("the owner is whom HOLD_OWNER names: change it and restart the hold")
	}
	found, err := a.records(ctx, did)
	if err != nil {
		return false, err
	}
	value, key := map[string]any{"addedAt": datetime(time.Now())}, crewKey(canonical(did))
	// Of several records the one with a tier stays.
	slices.SortStableFunc(found, func(a, b Member) int { return cmp.Compare(min(1, len(b.Tier)), min(1, len(a.Tier))) })
	if len(found) > 0 {
		if slices.ContainsFunc(found, func(m Member) bool { return m.Role == roleOwner }) {
			return false, errors.New("the owner may do everything already")
		}
		value, key = found[0].record, found[0].uri.RecordKey()
	}
	op := "create"
	if len(found) > 0 {
		op = "update"
	}
	value["$type"], value["member"], value["role"], value["permissions"] = crewCollection.String(), canonical(did).String(), role, permissions
	writes := []crewWrite{{Type: applyWrites + op, Collection: crewCollection, RKey: key, Value: value}}
	// What another record of the member gives would add up.
	return len(found) == 0, a.write(ctx, append(writes, deletions(found[min(1, len(found)):])...))
}

// RemoveMember takes somebody out of the crew, at once.
func (a *Admin) RemoveMember(ctx context.Context, did syntax.DID) error {
	found, err := a.records(ctx, did)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return fmt.Errorf("%s is not in the crew", did)
	}
	for _, m := range found {
		if m.Role == roleOwner {
			return errors.New("the owner cannot be removed: name another in HOLD_OWNER and restart the hold")
		}
	}
	return a.write(ctx, deletions(found))
}

// SetTier gives a member a tier of the hold by its name.
func (a *Admin) SetTier(ctx context.Context, did syntax.DID, tier string) error {
	var out struct {
		Tiers []struct{ Name string }
	}
	if err := a.Query(ctx, "io.atcr.hold.listTiers", nil, &out); err != nil {
		return fmt.Errorf("list the tiers: %w", err)
	}
	var known []string
	for rank, t := range out.Tiers {
		if t.Name == tier {
			return a.Procedure(ctx, methodUpdateCrewTier, map[string]any{"userDid": canonical(did), "tierRank": rank}, nil)
		}
		known = append(known, t.Name)
	}
	return fmt.Errorf("%q is none of the hold's tiers %q", tier, known)
}

// crewWrite is one write of com.atproto.repo.applyWrites.
type crewWrite struct {
	Type       string           `json:"$type"`
	Collection syntax.NSID      `json:"collection"`
	RKey       syntax.RecordKey `json:"rkey"`
	Value      map[string]any   `json:"value,omitempty"`
}

const applyWrites = "com.atproto.repo.applyWrites#"

func deletions(of []Member) []crewWrite {
	var writes []crewWrite
	for _, m := range of {
		writes = append(writes, crewWrite{Type: applyWrites + "delete", Collection: crewCollection, RKey: m.uri.RecordKey()})
	}
	return writes
}

// write does all writes or none.
func (a *Admin) write(ctx context.Context, writes []crewWrite) error {
	return a.Procedure(ctx, "com.atproto.repo.applyWrites", map[string]any{"repo": a.DID, "writes": writes}, nil)
}

// ResolveMember is the DID of a handle, or the DID itself.
func ResolveMember(ctx context.Context, cfg Config, name string) (syntax.DID, error) {
	id, err := syntax.ParseAtIdentifier(name)
	if err != nil {
		return "", fmt.Errorf("%q is neither a handle nor a DID", name)
	}
	if did, err := id.AsDID(); err == nil {
		return canonical(did), nil
	}
	found, err := cfg.directory(slog.Default(), func(c *http.Client) *http.Client { return c }).Resolve(ctx, id)
	if err != nil {
		return "", err
	}
	return found.DID, nil
}
