package spec

import (
	"strconv"
	"strings"
)

// Range is an inclusive range of bytes.
type Range struct{ First, Last int64 }

// Len is how many bytes the range covers.
func (r Range) Len() int64 { return r.Last - r.First + 1 }

// ParseContentRange reads the Content-Range of an upload chunk: "0-1023" (OCI distribution-spec 1.1, "Pushing a blob
// in chunks") or, as some clients send, RFC 9110's "bytes 0-1023/*" or "bytes 0-1023/2048".
func ParseContentRange(s string) (Range, bool) {
	if rest, ok := strings.CutPrefix(s, "bytes "); ok {
		rng, size, ok := strings.Cut(rest, "/")
		if _, num := decimal(size); !ok || size != "*" && !num {
			return Range{}, false
		}
		s = rng
	}
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		return Range{}, false
	}
	a, okA := decimal(first)
	b, okB := decimal(last)
	if !okA || !okB || b < a {
		return Range{}, false
	}
	return Range{a, b}, true
}

// decimal reads a non-negative number without sign; at most 18 digits, so that sums never overflow.
func decimal(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// ParsePageSize reads the "n" of a list request, at most limit. Empty means limit.
func ParsePageSize(s string, limit int) (int, bool) {
	if s == "" {
		return limit, true
	}
	n, ok := decimal(s)
	if !ok {
		return 0, false
	}
	return int(min(n, int64(limit))), true
}
