package spec

import "strings"

// Endpoint is which noun of the Distribution API a path names.
type Endpoint int

const (
	NotFound  Endpoint = iota
	Base               // /v2/
	Catalog            // /v2/_catalog
	Manifest           // /v2/<name>/manifests/<reference>
	Blob               // /v2/<name>/blobs/<digest>
	Uploads            // /v2/<name>/blobs/uploads/
	Upload             // /v2/<name>/blobs/uploads/<id>
	Tags               // /v2/<name>/tags/list
	Referrers          // /v2/<name>/referrers/<digest>
)

// Path is a parsed request path. Ref is the reference, digest or upload id as sent: not checked yet.
type Path struct {
	Endpoint Endpoint
	Name     string // not checked yet: [ParseName]
	Ref      string
}

// ParsePath splits a path under /v2/. Names may hold components called "manifests" or "blobs": the last two (for
// uploads three) components decide.
func ParsePath(path string) Path {
	rest, ok := strings.CutPrefix(path, "/v2")
	switch {
	case !ok:
		return Path{}
	case rest == "" || rest == "/":
		return Path{Endpoint: Base}
	case rest == "/_catalog":
		return Path{Endpoint: Catalog}
	case rest[0] != '/':
		return Path{}
	}
	head, ref, ok := cutLast(rest[1:])
	if !ok {
		return Path{}
	}
	name, noun, ok := cutLast(head)
	if !ok || name == "" {
		return Path{}
	}
	switch noun {
	case "manifests":
		return Path{Manifest, name, ref}
	case "referrers":
		return Path{Referrers, name, ref}
	case "tags":
		if ref == "list" {
			return Path{Tags, name, ""}
		}
	case "blobs":
		if ref == "uploads" {
			return Path{Uploads, name, ""}
		}
		return Path{Blob, name, ref}
	case "uploads":
		repo, blobs, ok := cutLast(name)
		switch {
		case !ok || blobs != "blobs" || repo == "":
		case ref == "":
			return Path{Uploads, repo, ""}
		default:
			return Path{Upload, repo, ref}
		}
	}
	return Path{}
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
