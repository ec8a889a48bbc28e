package diddoc

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// Fragments of the services that this project reads and publishes.
const (
	ServiceHold = "atcr_hold"
	ServicePDS  = "atproto_pds"

	TypeHold = "AtcrHoldService"
	TypePDS  = "AtprotoPersonalDataServer"

	KeyAtproto = "atproto" // fragment of the verification method that signs the repository
)

// Document is the part of a DID document (W3C DID Core) that atproto uses. Unknown fields are ignored.
type Document struct {
	Context            any                  `json:"@context,omitempty"`
	ID                 string               `json:"id"`
	AlsoKnownAs        []string             `json:"alsoKnownAs,omitempty"`
	VerificationMethod []VerificationMethod `json:"verificationMethod,omitempty"`
	Service            []Service            `json:"service,omitempty"`
}

// VerificationMethod is a public key of the DID.
type VerificationMethod struct {
	ID                 string `json:"id"` // #atproto or did#atproto
	Type               string `json:"type"`
	Controller         string `json:"controller"`
	PublicKeyMultibase string `json:"publicKeyMultibase,omitempty"`
}

// Service is an endpoint of the DID. DID Core also allows objects and lists as endpoints; those read as empty.
type Service struct {
	ID              string   `json:"id"` // #atproto_pds or did#atproto_pds
	Type            string   `json:"type"`
	ServiceEndpoint Endpoint `json:"serviceEndpoint"`
}

// Endpoint is a service endpoint that is a plain string.
type Endpoint string

// UnmarshalJSON reads a string, and anything else as an empty endpoint.
func (e *Endpoint) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		*e = ""
		return nil
	}
	*e = Endpoint(s)
	return nil
}

// Parse reads a DID document. It checks no more than that it is one: the caller compares the id.
func Parse(b []byte) (*Document, error) {
	var d Document
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, &Error{class: ClassInvalidDocument, msg: "the DID document is not JSON of the expected shape"}
	}
	if !strings.HasPrefix(d.ID, "did:") {
		return nil, &Error{class: ClassInvalidDocument, msg: "the DID document has no id"}
	}
	return &d, nil
}

// HoldEndpoint is where the document says the hold is: its #atcr_hold service, else #atproto_pds, since a hold is
// a small PDS. Without scheme-relative parts, path or trailing slash.
func HoldEndpoint(d *Document) (string, error) {
	if e := d.service(ServiceHold); e != "" {
		return CleanEndpoint(e)
	}
	return PDSEndpoint(d)
}

// PDSEndpoint is the document's #atproto_pds service.
func PDSEndpoint(d *Document) (string, error) {
	e := d.service(ServicePDS)
	if e == "" {
		return "", &Error{class: ClassInvalidDocument, msg: "the DID document names no service endpoint"}
	}
	return CleanEndpoint(e)
}

// SigningKey is the multibase form of the key that signs the DID's repository and service tokens.
func SigningKey(d *Document) (keyType, multibase string, ok bool) {
	for _, m := range d.VerificationMethod {
		if (m.ID == "#"+KeyAtproto || m.ID == d.ID+"#"+KeyAtproto) && m.PublicKeyMultibase != "" {
			return m.Type, m.PublicKeyMultibase, true
		}
	}
	return "", "", false
}

func (d *Document) service(fragment string) string {
	for _, s := range d.Service {
		if (s.ID == "#"+fragment || s.ID == d.ID+"#"+fragment) && s.ServiceEndpoint != "" {
			return string(s.ServiceEndpoint)
		}
	}
	return ""
}

// CleanEndpoint checks that raw is scheme://host[:port] with http or https, and drops a trailing slash. Userinfo,
// paths, queries and fragments are refused: XRPC lives at the root of a host.
func CleanEndpoint(raw string) (string, error) {
	bad := func(why string) (string, error) {
		return "", &Error{class: ClassInvalidDocument, msg: fmt.Sprintf("endpoint %.100q: %s", stripQuery(raw), why)}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return bad("not a URL")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return bad("want http or https")
	case u.Hostname() == "":
		return bad("no host")
	case u.User != nil:
		return bad("user information is not allowed")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "", u.Opaque != "", u.ForceQuery:
		return bad("want scheme://host[:port] without a path or query")
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

func stripQuery(raw string) string {
	if i := strings.IndexAny(raw, "?#@"); i >= 0 {
		return raw[:i] + "..."
	}
	return raw
}
