package s3

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// signer presigns URLs by AWS Signature Version 4 ("Authenticating Requests: Using Query Parameters"), signing the
// host only. A presigned URL is made for every part and every blob that is handed out; the SDKs' signers take twenty
// times as long, and are what the tests compare it with.
type signer struct {
	base      string // scheme://host[:port]
	host      string
	prefix    string // of the path: /bucket for path-style addressing, else empty
	region    string
	accessKey string
	secretKey string
	session   string // token of temporary credentials; empty for others

	mu  sync.Mutex
	day string // that key is for
	key []byte
}

// newSigner addresses the bucket as the options say. AWS's own buckets are in the region's endpoint.
func newSigner(o Options, host string, secure, virtual bool) *signer {
	s := &signer{region: cmp.Or(o.Region, "us-east-1"), accessKey: o.AccessKey, secretKey: o.SecretKey, session: o.Session}
	if host == awsHost {
		host = "s3." + s.region + ".amazonaws.com"
	}
	scheme, port := "https://", ":443"
	if !secure {
		scheme, port = "http://", ":80"
	}
	host = strings.TrimSuffix(host, port) // clients leave it out of the Host header
	if virtual {
		host = o.Bucket + "." + host
	} else {
		s.prefix = "/" + o.Bucket
	}
	s.base, s.host = scheme+host, host
	return s
}

// awsHost is the endpoint of AWS when none is configured.
const awsHost = "s3.amazonaws.com"

const (
	amzDate      = "20060102T150405Z"
	amzAlgorithm = "AWS4-HMAC-SHA256"
)

// presign is the URL by which whoever has it may send one kind of request to an object until now + ttl, which S3
// limits to a week. Query parameters of the request are part of it.
func (s *signer) presign(method, key string, ttl time.Duration, q url.Values, now time.Time) string {
	date := now.UTC().Format(amzDate)
	scope := date[:8] + "/" + s.region + "/s3/aws4_request"

	pairs := make([]string, 0, 6+len(q))
	add := func(k, v string) { pairs = append(pairs, escape(k, false)+"="+escape(v, false)) }
	add("X-Amz-Algorithm", amzAlgorithm)
	add("X-Amz-Credential", s.accessKey+"/"+scope)
	add("X-Amz-Date", date)
	add("X-Amz-Expires", strconv.FormatInt(int64(ttl/time.Second), 10))
	add("X-Amz-SignedHeaders", "host")
	if s.session != "" {
		add("X-Amz-Security-Token", s.session)
	}
	for k, vs := range q {
		for _, v := range vs {
			add(k, v)
		}
	}
	// Sorted by name and then by value: '=' sorts after '%', '-', '.' and digits, so whole pairs would not do.
	slices.SortFunc(pairs, func(a, b string) int {
		ak, av, _ := strings.Cut(a, "=")
		bk, bv, _ := strings.Cut(b, "=")
		if c := strings.Compare(ak, bk); c != 0 {
			return c
		}
		return strings.Compare(av, bv)
	})
	query := strings.Join(pairs, "&")
	path := s.prefix + "/" + escape(key, true)

	request := sha256.Sum256([]byte(method + "\n" + path + "\n" + query + "\nhost:" + s.host + "\n\nhost\nUNSIGNED-PAYLOAD"))
	toSign := amzAlgorithm + "\n" + date + "\n" + scope + "\n" + hex.EncodeToString(request[:])
	return s.base + path + "?" + query + "&X-Amz-Signature=" + hex.EncodeToString(mac(s.signingKey(date[:8]), toSign))
}

// signingKey is derived once a day.
func (s *signer) signingKey(day string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.day != day {
		s.day, s.key = day, mac(mac(mac(mac([]byte("AWS4"+s.secretKey), day), s.region), "s3"), "aws4_request")
	}
	return s.key
}

func mac(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

const upperHex = "0123456789ABCDEF"

// escape is AWS's UriEncode: every byte but the unreserved ones of RFC 3986, and slashes of a path, becomes %XX.
func escape(s string, path bool) string {
	plain := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			c == '-' || c == '.' || c == '_' || c == '~' || path && c == '/'
	}
	n := 0
	for i := range len(s) {
		if !plain(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := range len(s) {
		if c := s[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(b)
}
