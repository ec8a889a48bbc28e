package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/atproto/diddoc"
)

// maxDrain is how much of an answer is read so that its connection can be used again.
const maxDrain = 16 << 10

// check asks url once. Nothing of the answer but its class leaves this function.
func check(ctx context.Context, client *http.Client, url string, timeout time.Duration) Result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Result{Reason: v1alpha1.ReasonUnreachable}
	}
	asking := *client
	asking.Timeout = 0 // the client's own is for documents
	resp, err := asking.Do(req)
	if err != nil {
		return Result{Reason: classOf(err), Latency: time.Since(begin)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
	r := Result{Latency: time.Since(begin)}
	if resp.StatusCode != http.StatusOK {
		r.Reason = v1alpha1.ReasonBadStatus
	}
	return r
}

func classOf(err error) string {
	var ne net.Error
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case diddoc.Class(err) == diddoc.ClassBlockedAddress:
		return v1alpha1.ReasonBlockedAddress
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return v1alpha1.ReasonTimeout
	case errors.As(err, &verify), errors.As(err, &record), diddoc.Class(err) == diddoc.ClassTLSError:
		return v1alpha1.ReasonTLSError
	}
	return v1alpha1.ReasonUnreachable
}
