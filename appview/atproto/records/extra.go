package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

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

// original is a record as somebody wrote it. Fields that have not changed since are written as they stand there: nested
// fields that this release does not know, spellings and the precision of dates stay.
type original struct {
	raw   []byte
	blank func() any // of the type that raw was read into
}

// join writes known over extra: what we know wins.
func join(known any, extra Extra, was *original) ([]byte, error) {
	b, err := json.Marshal(known)
	if err != nil || len(extra) == 0 && was == nil {
		return b, err
	}
	own, err := fieldsOf(b)
	if err != nil {
		return nil, err
	}
	if was != nil {
		if err := was.restore(own); err != nil {
			return nil, err
		}
	}
	for k, v := range extra {
		if _, ok := own[k]; !ok {
			own[k] = v
		}
	}
	return json.Marshal(own)
}

// restore puts the fields of the original in place of those that say the same.
func (o *original) restore(own map[string]json.RawMessage) error {
	read, err := fieldsOf(o.raw)
	if err != nil {
		return err
	}
	known := o.blank()
	if err := lenient(o.raw, known); err != nil {
		return err
	}
	b, err := json.Marshal(known)
	if err != nil {
		return err
	}
	spelled, err := fieldsOf(b)
	if err != nil {
		return err
	}
	for k, v := range own {
		if raw, ok := read[k]; ok && bytes.Equal(v, spelled[k]) {
			own[k] = raw
		}
	}
	return nil
}

func fieldsOf(raw []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return nil, errors.New("not a JSON object")
	}
	return fields, nil
}

// lenient reads a record of which some fields may be of a wrong type: these read as if they were not there.
func lenient(raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return nil
	}
	return err
}

// split reads raw into what blank makes, and returns the fields that it has no place for.
func split[T any](raw []byte) (known *T, extra Extra, was *original, err error) {
	fields, err := fieldsOf(raw)
	if err != nil {
		return nil, nil, nil, err
	}
	known = new(T)
	if err := lenient(raw, known); err != nil {
		return nil, nil, nil, err
	}
	for f := range reflect.TypeFor[T]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		delete(fields, name)
	}
	if len(fields) > 0 {
		extra = fields
	}
	return known, extra, &original{raw: raw, blank: func() any { return new(T) }}, nil
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

// HoldDID turns what old records hold (a URL) into a DID, and canonicalises one. Empty when it is neither.
func HoldDID(s string) syntax.DID {
	switch {
	case strings.HasPrefix(s, "did:"):
		did, err := syntax.ParseDID(diddoc.Canonical(s))
		if err != nil {
			return ""
		}
		return did
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
		return syntax.DID(did)
	}
	return ""
}
