package session

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"atcr.io/operator/appview/store"
)

// recentTTL is how long a session that was just looked up is known without the store: how long another replica may
// go on giving out tokens after this one learned that the password was revoked. The tokens live longer themselves.
const recentTTL = 5 * time.Second

// recent are sessions found in the store moments ago: who asks for a token asks for the next one soon.
type recent struct {
	now  func() time.Time
	seen *lru.Cache[string, recentSession] // by credential
}

type recentSession struct {
	pds   string
	until time.Time
}

func newRecent(now func() time.Time) *recent {
	seen, _ := lru.New[string, recentSession](remembered)
	return &recent{now, seen}
}

// has says whether the credential has a session at the PDS that was good moments ago.
func (r *recent) has(credential, pds string) bool {
	s, ok := r.seen.Get(credential)
	return ok && s.pds == pds && r.now().Before(s.until)
}

// add remembers a session; its access token must outlive [recentTTL].
func (r *recent) add(row *store.PDSSession) {
	r.seen.Add(row.Credential, recentSession{row.PDS, r.now().Add(recentTTL)})
}

func (r *recent) remove(credential string) { r.seen.Remove(credential) }
