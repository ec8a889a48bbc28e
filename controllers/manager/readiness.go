package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"atcr.io/operator/appview/config/names"
)

const (
	readinessTimeout = 2 * time.Second
	readinessLimit   = 4 << 10 // bytes
)

// readiness asks servers over HTTP. Only the kubelet writes a pod's address, so the address needs no guard.
type readiness struct{ client *http.Client }

func newReadiness() readiness {
	return readiness{&http.Client{
		Timeout:       readinessTimeout,
		Transport:     &http.Transport{DisableKeepAlives: true}, // no proxy: pods are reached directly
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Ready implements appview.Readiness. A server that is not ready answers too.
func (r readiness) Ready(ctx context.Context, podIP string) (out names.Ready, err error) {
	url := "http://" + net.JoinHostPort(podIP, strconv.Itoa(names.PortDebug)) + names.PathReady
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return out, fmt.Errorf("asking a server which keys it has: %w", err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return out, fmt.Errorf("asking a server which keys it has: %w", err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, readinessLimit)).Decode(&out); err != nil {
		return out, fmt.Errorf("asking a server which keys it has: HTTP status %d without what it should say", res.StatusCode)
	}
	return out, nil
}
