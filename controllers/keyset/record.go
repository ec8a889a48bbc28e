package keyset

import (
	"encoding/json"
	"fmt"
	"time"
)

// record is what the files of a [Set] do not say. It is kept in an annotation of the Secret that holds them, so that
// both are written at once and a lost status loses nothing.
type record struct {
	Since   time.Time       `json:"since"` // when the current key began to sign
	Next    *nextRecord     `json:"next,omitempty"`
	Retired []retiredRecord `json:"retired,omitempty"`
	Life    int64           `json:"tokenSeconds,omitempty"` // [Set.TokenLife]
	Revoked []string        `json:"revoked,omitempty"`
	Changed time.Time       `json:"changed,omitzero"`
	Request string          `json:"request,omitempty"` // the last one that was carried out
}

type nextRecord struct {
	Kid       string    `json:"kid"`
	Published time.Time `json:"published"`
}

type retiredRecord struct {
	Kid   string    `json:"kid"`
	Until time.Time `json:"until,omitzero"`
}

// Record is the annotation that goes with [Set.Files].
func (s *Set) Record() string {
	r := record{Since: s.Since.UTC(), Request: s.Request, Life: int64(wholeSeconds(s.TokenLife) / time.Second),
		Revoked: s.Revoked, Changed: s.Changed.UTC()}
	if s.Next != nil {
		r.Next = &nextRecord{s.Next.Kid, s.Published.UTC()}
	}
	for _, k := range s.Retired {
		r.Retired = append(r.Retired, retiredRecord{k.Kid, k.Until.UTC()})
	}
	return r.encode()
}

// Recall puts the annotation's part back into a set that [Parse] read. What it does not say is taken at its safest: the
// current key began at made and its tokens live as long as any may, and a key that it does not know is a retired one whose
// tokens may still be about.
func (s *Set) Recall(annotation string, made time.Time) {
	r := decodeRecord(annotation)
	s.Since, s.Request, s.TokenLife = r.Since, r.Request, time.Duration(r.Life)*time.Second
	s.Revoked, s.Changed = r.Revoked, r.Changed
	if s.Since.IsZero() {
		s.Since, s.TokenLife = made, longestToken
	}
	until := map[string]time.Time{}
	for _, k := range r.Retired {
		until[k.Kid] = k.Until
	}
	var retired []Retired
	for _, k := range s.Retired {
		if r.Next != nil && k.Kid == r.Next.Kid && s.Next == nil {
			public := k.Public
			s.Next, s.Published = &public, r.Next.Published
			continue
		}
		k.Until = until[k.Kid]
		retired = append(retired, k)
	}
	s.Retired = retired
	if s.Changed.IsZero() {
		s.Changed = s.Since
		if s.Published.After(s.Changed) {
			s.Changed = s.Published
		}
	}
}

func (r record) encode() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("keyset: encoding a record: %v", err)) // times and strings always encode
	}
	return string(b)
}

// decodeRecord reads an annotation; one that says nothing that can be read is an empty record.
func decodeRecord(annotation string) (r record) {
	if json.Unmarshal([]byte(annotation), &r) != nil {
		return record{}
	}
	return r
}
