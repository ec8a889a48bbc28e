package records

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"atcr.io/operator/appview/atproto/diddoc"
)

// Collections.
const (
	CollectionManifest = "io.atcr.manifest"
	CollectionTag      = "io.atcr.tag"
	CollectionProfile  = "io.atcr.sailor.profile"
)

// Extra holds the fields of a record that this release does not know.
type Extra map[string]json.RawMessage

// join writes known over extra: what we know wins.
func join(known any, extra Extra) ([]byte, error) {
	b, err := json.Marshal(known)
	if err != nil || len(extra) == 0 {
		return b, err
	}
	fields := map[string]json.RawMessage{}
	for k, v := range extra {
		fields[k] = v
	}
	var own map[string]json.RawMessage
	if err := json.Unmarshal(b, &own); err != nil {
		return nil, err
	}
	for k, v := range own {
		fields[k] = v
	}
	return json.Marshal(fields)
}

// split reads raw into known and returns the fields whose names are not in names.
func split(raw []byte, known any, names ...string) (Extra, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, fmt.Errorf("not a JSON object")
	}
	if err := json.Unmarshal(raw, known); err != nil {
		return nil, err
	}
	for _, n := range names {
		delete(fields, n)
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return fields, nil
}

func checkType(raw []byte, want string) error {
	var t struct {
		Type string `json:"$type"`
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return fmt.Errorf("%s: not a JSON object", want)
	}
	if t.Type != "" && t.Type != want {
		return fmt.Errorf("%s: the record is of another type", want)
	}
	return nil
}

// Time is an atproto datetime: written in UTC with milliseconds, read leniently; a bad one reads as zero.
type Time struct{ time.Time }

// MarshalJSON writes RFC 3339.
func (t Time) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}

// UnmarshalJSON reads RFC 3339, and anything else as the zero time: a stranger's date must not hide their record.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		t.Time = time.Time{}
		return nil
	}
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil {
		parsed = time.Time{}
	}
	t.Time = parsed.UTC()
	return nil
}

// holdDID turns what old records hold (a URL) into a DID, and canonicalises one. Empty when it is neither.
func holdDID(s string) string {
	switch {
	case strings.HasPrefix(s, "did:"):
		return diddoc.Canonical(s)
	case strings.HasPrefix(s, "http://"), strings.HasPrefix(s, "https://"):
		u, err := url.Parse(s)
		if err != nil {
			return ""
		}
		host := strings.ToLower(u.Host)
		if u.Scheme == "https" {
			host = strings.TrimSuffix(host, ":443")
		} else {
			host = strings.TrimSuffix(host, ":80")
		}
		did, err := diddoc.CanonicalWebDID("did:web:" + host)
		if err != nil {
			return ""
		}
		return did
	}
	return ""
}
