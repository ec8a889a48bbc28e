package spec

// Limits of the grammar. The OCI spec leaves the length of a name to clients and registries; 255 is what docker and
// distribution allow, and what the records' lexicon (io.atcr.manifest#repository) holds.
const (
	MaxNameLength = 255
	MaxTagLength  = 128
)

// Name is a repository as a client writes it: "alice.test/team/app" is Owner "alice.test" and Repository "team/app".
type Name struct {
	Owner      string // handle, or a DID in one of its path forms; not resolved yet
	Repository string // one component or more
}

// String is the name as it stands in paths and token scopes.
func (n Name) String() string { return n.Owner + "/" + n.Repository }

// ParseName reads a repository name: at least two components of
//
//	[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
//
// separated by slashes (OCI distribution-spec 1.1, "Pulling manifests"). The first is the owner.
func ParseName(s string) (Name, bool) {
	if len(s) == 0 || len(s) > MaxNameLength {
		return Name{}, false
	}
	slash, start := -1, 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '/' {
			continue
		}
		if !isComponent(s[start:i]) {
			return Name{}, false
		}
		if slash < 0 && i < len(s) {
			slash = i
		}
		start = i + 1
	}
	if slash < 0 {
		return Name{}, false
	}
	return Name{Owner: s[:slash], Repository: s[slash+1:]}, true
}

// IsRepository says whether s may be the part of a name after its owner.
func IsRepository(s string) bool {
	_, ok := ParseName("o/" + s)
	return ok
}

// isComponent says whether s is one path component of a repository name.
func isComponent(s string) bool {
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && isLowerAlnum(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		sep := i
		for i < len(s) && !isLowerAlnum(s[i]) {
			i++
		}
		if !isSeparator(s[sep:i]) {
			return false
		}
	}
	return false
}

func isSeparator(s string) bool {
	switch s {
	case ".", "_", "__":
		return true
	}
	for i := range len(s) {
		if s[i] != '-' {
			return false
		}
	}
	return len(s) > 0
}

// IsTag says whether s is a tag: [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func IsTag(s string) bool {
	if len(s) == 0 || len(s) > MaxTagLength || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !isLowerAlnum(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isLowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
