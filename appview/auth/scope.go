package auth

import (
	"slices"
	"strings"
)

// Limits of one token request.
const (
	maxScopes      = 64
	maxScopeLength = 1024
	maxActions     = 16
)

// Access is one entry of a token's access claim, and one parsed scope.
type Access struct {
	Type    string   `json:"type"`
	Class   string   `json:"class,omitempty"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// ParseScopes reads scope parameters: each holds several scopes between spaces, and the parameter may repeat.
// Malformed scopes are left out: they get nothing. Scopes of the same resource are merged.
func ParseScopes(params []string) []Access {
	var out []Access
	for _, p := range params {
		for s := range strings.FieldsSeq(p) {
			a, ok := ParseScope(s)
			if !ok {
				continue
			}
			i := slices.IndexFunc(out, func(b Access) bool { return a.Type == b.Type && a.Class == b.Class && a.Name == b.Name })
			if i < 0 {
				if len(out) == maxScopes {
					return out
				}
				out = append(out, Access{Type: a.Type, Class: a.Class, Name: a.Name})
				i = len(out) - 1
			}
			for _, action := range a.Actions {
				if !slices.Contains(out[i].Actions, action) && len(out[i].Actions) < maxActions {
					out[i].Actions = append(out[i].Actions, action)
				}
			}
		}
	}
	return out
}

// ParseScope reads one scope of the token specification: type[(class)]:name:action[,action]. A name may contain a
// colon (a host with a port), so the actions follow the last one.
func ParseScope(s string) (Access, bool) {
	first, last := strings.IndexByte(s, ':'), strings.LastIndexByte(s, ':')
	if len(s) > maxScopeLength || first <= 0 || last == first {
		return Access{}, false
	}
	a := Access{Type: s[:first], Name: s[first+1 : last]}
	if open := strings.IndexByte(a.Type, '('); open >= 0 {
		if open == 0 || !strings.HasSuffix(a.Type, ")") {
			return Access{}, false
		}
		a.Type, a.Class = a.Type[:open], a.Type[open+1:len(a.Type)-1]
	}
	if a.Name == "" || !word(a.Type) || a.Class != "" && !word(a.Class) {
		return Access{}, false
	}
	for _, c := range []byte(a.Name) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return Access{}, false
		}
	}
	for action := range strings.SplitSeq(s[last+1:], ",") {
		if action != "*" && !word(action) {
			return Access{}, false
		}
		a.Actions = append(a.Actions, action)
	}
	return a, len(a.Actions) <= maxActions
}

func word(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// String is the scope as a client sends it.
func (a Access) String() string {
	class := ""
	if a.Class != "" {
		class = "(" + a.Class + ")"
	}
	return a.Type + class + ":" + a.Name + ":" + strings.Join(a.Actions, ",")
}
