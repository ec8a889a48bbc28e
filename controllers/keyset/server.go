package keyset

import (
	"slices"
	"time"

	"atcr.io/operator/appview/config/names"
)

// Server is what is known of one that runs.
type Server struct {
	Name  string
	Mute  bool // it cannot be asked
	Ready names.Ready
}

// mute is how many propagation times a server that cannot be asked holds up a change of keys: a network policy may be in
// the way, and the kubelet has long updated its files by then. One that answers with other keys always does.
const mute = 10

// Behind names, in order, the servers that have not loaded the set as it is.
func (s *Set) Behind(servers []Server, p Policy, now time.Time) []string {
	var out []string
	for _, v := range servers {
		if v.Mute && !s.Overdue(p, now) || !v.Mute && (v.Ready.KeySetHash != s.Hash() || v.Ready.SigningKey != s.Current.Kid) {
			out = append(out, v.Name)
		}
	}
	slices.Sort(out)
	return out
}

// Overdue says that every server should have loaded the set by now, ten times over.
func (s *Set) Overdue(p Policy, now time.Time) bool {
	return !now.Before(s.Changed.Add(mute * p.Propagation))
}

// Servers that have not loaded a set are asked again when as much time has passed as since it changed: twice as long each
// time, between these.
const (
	askFirst = 2 * time.Second
	askMost  = time.Minute
)

func (s *Set) askAgain(now time.Time) time.Duration {
	return min(max(now.Sub(s.Changed), askFirst), askMost)
}
