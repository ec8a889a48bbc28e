package devnet

import (
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"atcr.io/operator/appview/pds"
)

const limitWindow = 5 * time.Minute

// limiter counts sessions per identifier in fixed windows, as the reference PDS does.
type limiter struct {
	max     int
	mu      sync.Mutex
	windows map[string]window
}

type window struct {
	ends time.Time
	used int
}

func newLimiter(limit int) *limiter { return &limiter{max: limit, windows: map[string]window{}} }

func (l *limiter) take(w http.ResponseWriter, key string) error {
	if l.max == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	win := l.windows[key]
	if now.After(win.ends) {
		win = window{ends: now.Add(limitWindow)}
	}
	win.used++
	l.windows[key] = win
	h := w.Header()
	h.Set("RateLimit-Limit", fmt.Sprint(l.max))
	h.Set("RateLimit-Remaining", fmt.Sprint(max(0, l.max-win.used)))
	h.Set("RateLimit-Reset", fmt.Sprint(win.ends.Unix()))
	h.Set("RateLimit-Policy", fmt.Sprintf("%d;w=%d", l.max, int(limitWindow.Seconds())))
	if win.used > l.max {
		h.Set("Retry-After", fmt.Sprint(int(math.Ceil(time.Until(win.ends).Seconds()))))
		return &pds.XRPCError{Status: http.StatusTooManyRequests, Name: "RateLimitExceeded", Message: "Rate Limit Exceeded"}
	}
	return nil
}
