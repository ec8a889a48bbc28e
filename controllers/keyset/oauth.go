package keyset

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// OAuthSet is the keys of the OAuth client. A session is bound to the key that it began with, so a retired key keeps its
// private half and its place in the client's JWK set until the sessions are over.
type OAuthSet struct {
	Current *Key
	Since   time.Time // when sessions began to begin with it
	Retired []RetiredOAuth
	Request string // the last rotation that was asked for by hand and carried out
}

// RetiredOAuth is a key that begins no more sessions.
type RetiredOAuth struct {
	*Key
	Until time.Time // the sessions that began with it are over by then
}

// MaxRetiredOAuth bounds them: the newest stay.
const MaxRetiredOAuth = 31

// OAuthPolicy says when the OAuth client's key changes.
type OAuthPolicy struct {
	Interval    time.Duration // zero: only when asked
	RetireAfter time.Duration
}

// File is what the server mounts: private keys in PKCS#8 PEM, the current one first.
func (s *OAuthSet) File() ([]byte, error) {
	var out bytes.Buffer
	for _, k := range s.keys() {
		b, err := encodePrivate(k.Signer)
		if err != nil {
			return nil, err
		}
		out.Write(b)
	}
	return out.Bytes(), nil
}

func (s *OAuthSet) keys() []*Key {
	list := []*Key{s.Current}
	for _, k := range s.Retired {
		list = append(list, k.Key)
	}
	return list
}

// Record is the annotation that goes with [OAuthSet.File].
func (s *OAuthSet) Record() string {
	r := record{Since: s.Since.UTC(), Request: s.Request}
	for _, k := range s.Retired {
		r.Retired = append(r.Retired, retiredRecord{k.Kid, k.Until.UTC()})
	}
	return r.encode()
}

// ParseOAuth reads what [OAuthSet.File] and [OAuthSet.Record] wrote. What the record does not say is taken at its
// safest: the current key began at made, and a retired one stays for retireAfter from now.
func ParseOAuth(file []byte, annotation string, made, now time.Time, retireAfter time.Duration) (*OAuthSet, error) {
	r := decodeRecord(annotation)
	until := map[string]time.Time{}
	for _, k := range r.Retired {
		until[k.Kid] = k.Until
	}
	s := &OAuthSet{Since: r.Since, Request: r.Request}
	if s.Since.IsZero() {
		s.Since = made
	}
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		key, _, err := ParseProvided(pem.EncodeToMemory(block), nil, "", now)
		if err != nil {
			return nil, err
		}
		switch {
		case key.Algorithm != ES256:
			return nil, errors.New("an OAuth client's key must be ECDSA P-256")
		case s.Current == nil:
			s.Current = key
		case len(s.Retired) == MaxRetiredOAuth:
			return nil, fmt.Errorf("more than %d keys", MaxRetiredOAuth+1)
		default:
			end, ok := until[key.Kid]
			if !ok {
				end = now.Add(retireAfter)
			}
			s.Retired = append(s.Retired, RetiredOAuth{key, end})
		}
	}
	if s.Current == nil {
		return nil, errors.New("no PEM block")
	}
	return s, nil
}

// DecideOAuth says whether the set changes: Stage, a new key takes over (the source's, when somebody provides one); Revoke,
// a new key takes over and every earlier one goes; Drop, some retired keys are over; Mark, a request cannot be carried
// out before the source changes; or Nothing until after (zero: until something changes).
func DecideOAuth(s *OAuthSet, source *Key, request string, p OAuthPolicy, now time.Time) (a Action, after time.Duration) {
	asked := request != "" && request != s.Request
	revoke := asked && strings.HasPrefix(request, RevokePrefix)
	switch {
	case source != nil && source.Kid != s.Current.Kid && revoke:
		return Revoke, 0
	case source != nil && source.Kid != s.Current.Kid:
		return Stage, 0
	case source != nil && asked:
		return Mark, 0
	case revoke:
		return Revoke, 0
	case asked, source == nil && p.Interval > 0 && !now.Before(s.Since.Add(p.Interval)):
		return Stage, 0
	}
	if source == nil && p.Interval > 0 {
		after = s.Since.Add(p.Interval).Sub(now)
	}
	for _, k := range s.Retired {
		if !now.Before(k.Until) {
			return Drop, 0
		}
		after = sooner(after, k.Until.Sub(now))
	}
	return Nothing, after
}

// CarryOAuth changes the set as decided; key is the one that takes over.
func CarryOAuth(s *OAuthSet, a Action, key *Key, request string, p OAuthPolicy, now time.Time) *OAuthSet {
	out := *s
	out.Retired = nil
	switch a {
	case Stage:
		out.Current, out.Since = key, now
		out.Retired = append(out.Retired, RetiredOAuth{s.Current, now.Add(p.RetireAfter)})
		for _, k := range s.Retired {
			if k.Kid != key.Kid && len(out.Retired) < MaxRetiredOAuth {
				out.Retired = append(out.Retired, k)
			}
		}
	case Revoke:
		out.Current, out.Since = key, now
	case Drop:
		for _, k := range s.Retired {
			if now.Before(k.Until) {
				out.Retired = append(out.Retired, k)
			}
		}
	default:
		out.Retired = s.Retired
	}
	if request != "" && a != Drop {
		out.Request = request
	}
	return &out
}
