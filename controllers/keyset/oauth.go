package keyset

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
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
	Until time.Time // the sessions that began with it are over by then; zero: the record of it was lost
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

// ParseOAuth reads what [OAuthSet.File] and [OAuthSet.Record] wrote. Where the record says nothing, the current key began
// at made, and a retired one has no end until [Correct] gives it one. Nobody needs certificates of these keys: they have
// none.
func ParseOAuth(file []byte, annotation string, made time.Time) (*OAuthSet, error) {
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
		key, err := bareKey(block)
		switch {
		case err != nil:
			return nil, err
		case key.Algorithm != ES256:
			return nil, errors.New("an OAuth client's key must be ECDSA P-256")
		case s.Current == nil:
			s.Current = key
		case len(s.Retired) == MaxRetiredOAuth:
			return nil, fmt.Errorf("more than %d keys", MaxRetiredOAuth+1)
		default:
			s.Retired = append(s.Retired, RetiredOAuth{key, until[key.Kid]})
		}
	}
	if s.Current == nil {
		return nil, errors.New("no PEM block")
	}
	return s, nil
}

// DecideOAuth says whether the set changes: Stage, a new key takes over (the source's, when somebody provides one); Revoke,
// a new key takes over and every earlier one goes; Purge, earlier ones go before the source has another; Drop, some retired
// keys are over; Correct, the end of one was lost; Mark, a request cannot be carried out before the source changes; or
// Nothing.
func DecideOAuth(s *OAuthSet, source *Key, wanted string, p OAuthPolicy, now time.Time) Plan {
	asked, revoke := request(wanted, s.Request)
	differs := source != nil && source.Kid != s.Current.Kid
	pending := revoke && source != nil && !differs
	switch {
	case pending && len(s.Retired) > 0:
		return Plan{Action: Purge}
	case revoke && !pending:
		return Plan{Action: Revoke}
	case differs:
		return Plan{Action: Stage}
	case source != nil && asked && !revoke:
		return Plan{Action: Mark}
	case source == nil && (asked || p.Interval > 0 && !now.Before(s.Since.Add(p.Interval))):
		return Plan{Action: Stage}
	}
	plan := Plan{Action: Nothing, Pending: pending}
	if source == nil && p.Interval > 0 {
		plan.After = s.Since.Add(p.Interval).Sub(now)
	}
	for _, k := range s.Retired {
		switch {
		case k.Until.IsZero():
			return Plan{Action: Correct}
		case !now.Before(k.Until):
			return Plan{Action: Drop}
		}
		plan.After = sooner(plan.After, k.Until.Sub(now))
	}
	return plan
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
	case Purge:
	case Correct:
		for _, k := range s.Retired {
			if k.Until.IsZero() {
				k.Until = now.Add(p.RetireAfter)
			}
			out.Retired = append(out.Retired, k)
		}
	case Drop:
		for _, k := range s.Retired {
			if now.Before(k.Until) {
				out.Retired = append(out.Retired, k)
			}
		}
	default:
		out.Retired = s.Retired
	}
	if request != "" && (a == Stage || a == Revoke || a == Mark) {
		out.Request = request
	}
	return &out
}
