package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"atcr.io/operator/appview/hold/slow"
	"atcr.io/operator/appview/hold/storage"
	"atcr.io/operator/appview/hold/xrpc"
	"atcr.io/operator/appview/sqlitedb"
)

// Routes implements [storage.Handler].
func (d *Driver) Routes() map[string]http.Handler {
	return map[string]http.Handler{
		"PUT " + partRoute: http.HandlerFunc(d.servePart),
		"GET " + blobRoute: http.HandlerFunc(d.serveBlob), // HEAD too
	}
}

var errURL = xrpc.Errorf(http.StatusForbidden, "ExpiredUrl",
	"This URL is expired or was changed; ask the hold for a new one.")

// servePart stores the body of a PUT to a part's URL. The body may have any length.
func (d *Driver) servePart(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	id := q.Get("upload")
	n, err := strconv.Atoi(q.Get("part"))
	if _, ok := d.urls.check(partRoute, q); !ok || err != nil || !storage.ValidUploadID(id) || n < 1 || n > storage.MaxParts {
		xrpc.WriteError(w, errURL)
		return
	}
	etag, err := d.receivePart(id, n, slow.Reader(w, r.Body, d.idle))
	switch {
	case errors.Is(err, storage.ErrNoUpload):
		xrpc.WriteError(w, xrpc.Errorf(http.StatusNotFound, "InvalidUploadId",
			"The upload is completed, aborted or expired; start a new one."))
	case sqlitedb.DiskFull(err), errors.As(err, new(*xrpc.Error)): // the hold ends a body that is too long
		xrpc.WriteError(w, err)
	case err != nil:
		xrpc.WriteError(w, xrpc.Errorf(http.StatusBadRequest, "UploadFailed",
			"The part did not arrive whole; send it again.").Because(err))
	default:
		w.Header().Set("ETag", etag)
		w.WriteHeader(http.StatusOK)
	}
}

// serveBlob answers GET and HEAD of a blob's URL, with ranges and conditions.
func (d *Driver) serveBlob(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	left, ok := d.urls.check(blobRoute, q)
	dg, err := storage.ParseDigest(q.Get("digest"))
	if !ok || err != nil {
		xrpc.WriteError(w, errURL)
		return
	}
	f, err := os.Open(d.blobPath(dg))
	if errors.Is(err, fs.ErrNotExist) {
		xrpc.WriteError(w, xrpc.Errorf(http.StatusNotFound, "BlobNotFound", "The blob was deleted; push it again."))
		return
	}
	if err != nil {
		xrpc.WriteError(w, fmt.Errorf("open blob %s: %w", dg, err))
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Docker-Content-Digest", dg.String())
	h.Set("ETag", `"`+dg.String()+`"`)
	h.Set("Cache-Control", fmt.Sprintf("private, immutable, max-age=%d", int(left.Seconds())))
	if info, err := f.Stat(); err != nil || info.Size() == 0 || noBytes(r.Header.Get("Range")) {
		r.Header.Del("Range")
	}
	http.ServeContent(slow.Writer(w, d.idle), r, "", time.Time{}, f)
}

// noBytes says whether a Range asks for the last zero bytes, of which net/http would say that they begin behind the end,
// as of any last bytes of nothing. A server may answer with all of it instead (RFC 9110, section 14.2).
func noBytes(header string) bool {
	_, list, _ := strings.Cut(header, "=")
	for spec := range strings.SplitSeq(list, ",") {
		if last, ok := strings.CutPrefix(strings.TrimSpace(spec), "-"); ok && strings.Trim(last, "0 \t") == "" {
			return true
		}
	}
	return false
}

func sysStat(info fs.FileInfo) (uint64, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Ino, true
}
