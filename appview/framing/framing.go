// Package framing keeps two servers from reading one connection differently, and has answers heard that come before the
// end of a request.
package framing

import "net/http"

// Last lets a connection end with a request whose body is chunked. One that also had a Content-Length, which a proxy in
// front may have gone by, cannot be told apart here: net/http drops it (RFC 9112, section 6.1). What follows is then read
// by nobody as a request.
func Last(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
