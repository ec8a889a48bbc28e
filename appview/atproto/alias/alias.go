package alias

import (
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
)

// MaxName is the longest repository name, identity included (OCI Distribution 1.1 asks for 255 with the host).
const MaxName = 255

const (
	plcLength = 24
	portMark  = "__3a"
)

// Encode is the alias of a did:plc or did:web in the OCI grammar.
func Encode(did syntax.DID) (string, error) {
	method, id := did.Method(), did.Identifier()
	switch method {
	case "plc":
		if !isPLC(id) {
			return "", fmt.Errorf("%.80q is not a did:plc", did)
		}
		return "did_plc_" + id, nil
	case "web":
		w, err := diddoc.ParseWebDID(string(did))
		if err != nil {
			return "", err
		}
		return "did_web_" + strings.Replace(strings.TrimPrefix(w.String(), "did:web:"), "%3A", portMark, 1), nil
	}
	return "", fmt.Errorf("%.80q: only did:plc and did:web identities are supported", did)
}

// Decode reads one component: a handle, or the alias of a DID.
func Decode(component string) (syntax.AtIdentifier, error) {
	if rest, ok := cutDID(component); ok {
		return decodeDID(component, rest)
	}
	h, err := syntax.ParseHandle(component)
	if err != nil || component != strings.ToLower(component) {
		return "", fmt.Errorf("%.80q is neither a handle (alice.example.com) nor a DID (did_plc_...)", component)
	}
	return h.AtIdentifier(), nil
}

// IsHandle says whether a component that [Decode] reads is a handle, and not the alias of a DID.
func IsHandle(component string) bool {
	_, isDID := cutDID(component)
	return !isDID
}

// cutDID gives method and identifier with an underscore between them.
func cutDID(component string) (string, bool) {
	if rest, ok := strings.CutPrefix(component, "did_"); ok {
		return rest, true
	}
	if rest, ok := strings.CutPrefix(component, "did-"); ok && !strings.Contains(component, ".") {
		return strings.Replace(rest, "-", "_", 1), true
	}
	return "", false
}

func decodeDID(component, rest string) (syntax.AtIdentifier, error) {
	method, id, _ := strings.Cut(rest, "_")
	switch method {
	case "plc":
		if isPLC(id) {
			return syntax.DID("did:plc:" + id).AtIdentifier(), nil
		}
	case "web":
		host, port, hasPort := strings.Cut(id, portMark)
		if strings.ContainsAny(host, ":%") {
			break
		}
		did := "did:web:" + host
		if hasPort {
			did += "%3A" + port
		}
		if w, err := diddoc.ParseWebDID(did); err == nil && w.String() == did {
			return syntax.DID(did).AtIdentifier(), nil
		}
	}
	return "", fmt.Errorf("%.80q is not the alias of a DID; write did:plc:abc as did_plc_abc", component)
}

func isPLC(id string) bool {
	if len(id) != plcLength {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// Split cuts a repository name into the identity, as decoded, and the repository under it, which may have several
// components.
func Split(name string) (id syntax.AtIdentifier, repository string, err error) {
	if len(name) > MaxName {
		return "", "", fmt.Errorf("the name is longer than %d bytes", MaxName)
	}
	first, repository, ok := strings.Cut(name, "/")
	if !ok || repository == "" {
		return "", "", fmt.Errorf("%.80q names no repository; write <handle or DID>/<repository>", name)
	}
	if err := checkRepository(repository); err != nil {
		return "", "", err
	}
	id, err = Decode(first)
	return id, repository, err
}

// checkRepository is the grammar of the OCI Distribution specification:
// [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* components between slashes.
func checkRepository(repository string) error {
	for part := range strings.SplitSeq(repository, "/") {
		if !isComponent(part) {
			return fmt.Errorf("repository %.80q: want lower-case letters and digits, separated by one . _ __ or hyphens, between slashes", repository)
		}
	}
	return nil
}

func isComponent(s string) bool {
	alnum := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
	for i := 0; i < len(s); {
		if !alnum(s[i]) {
			return false
		}
		for i < len(s) && alnum(s[i]) {
			i++
		}
		if i == len(s) {
			return true
		}
		start := i
		for i < len(s) && !alnum(s[i]) {
			i++
		}
		sep := s[start:i]
		if i == len(s) || sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
			return false
		}
	}
	return false
}

// Owner reads a user name as people type it when they log in: a handle with or without a leading @, a DID, or the
// alias of one.
func Owner(user string) (syntax.AtIdentifier, error) {
	user = strings.TrimPrefix(strings.TrimSpace(user), "@")
	if strings.HasPrefix(user, "did:web:") {
		w, err := diddoc.ParseWebDID(user)
		if err != nil {
			return "", err
		}
		return syntax.DID(w.String()).AtIdentifier(), nil
	}
	if strings.HasPrefix(user, "did:plc:") {
		if id := strings.TrimPrefix(user, "did:plc:"); isPLC(id) {
			return syntax.DID(user).AtIdentifier(), nil
		}
		return "", fmt.Errorf("%.80q is not a did:plc", user)
	}
	return Decode(strings.ToLower(user))
}
