package auth

import (
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/alias"
)

// Actions on a repository.
const (
	Pull   = "pull"
	Push   = "push"
	Delete = "delete"
)

// Subject is who asks for a token; the zero value is anonymous.
type Subject struct {
	DID    syntax.DID
	Handle syntax.Handle // verified both ways, or empty
	Method string        // "app_password"; empty for anonymous
}

// Anonymous says whether nobody logged in.
func (s Subject) Anonymous() bool { return s.DID == "" }

// Grant is the part of what was asked for that the subject gets. Entries of which nothing is left are dropped; the
// client then meets a 401 or 403 where it needed more.
func Grant(who Subject, asked []Access) []Access {
	granted := []Access{}
	for _, a := range asked {
		if actions := allowed(who, a); len(actions) > 0 {
			granted = append(granted, Access{Type: a.Type, Class: a.Class, Name: a.Name, Actions: actions})
		}
	}
	return granted
}

func allowed(who Subject, a Access) []string {
	switch a.Type {
	case "repository":
		id, _, err := alias.Split(a.Name)
		if err != nil {
			return nil
		}
		may := []string{Pull}
		if who.owns(id) {
			may = []string{Pull, Push, Delete}
		}
		if slices.Contains(a.Actions, "*") {
			return may
		}
		return slices.DeleteFunc(slices.Clone(a.Actions), func(s string) bool { return !slices.Contains(may, s) })
	case "registry":
		// A catalog of one's own repositories.
		if a.Name == "catalog" && !who.Anonymous() && slices.Contains(a.Actions, "*") {
			return []string{"*"}
		}
	}
	return nil
}

func (s Subject) owns(id syntax.AtIdentifier) bool {
	if s.Anonymous() {
		return false
	}
	if did, err := id.AsDID(); err == nil {
		return did == s.DID
	}
	h, err := id.AsHandle()
	return err == nil && s.Handle != "" && !s.Handle.IsInvalidHandle() && h.Normalize() == s.Handle.Normalize()
}
