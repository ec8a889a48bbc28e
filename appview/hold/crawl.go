package hold

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/background"
)

const crawlTimeout = 15 * time.Second

// requestCrawls asks the configured relays to follow the hold's firehose, in the background. Each is asked until it
// answers; one that is down is asked again, with growing waits.
func (s *Server) requestCrawls(ctx context.Context) {
	client := diddoc.NewClient(s.cfg.policy().ForOperator(true), diddoc.Options{})
	for _, relay := range s.cfg.Relays {
		ask := func(ctx context.Context) {
			retry(ctx, func() bool {
				asking, cancel := context.WithTimeout(ctx, crawlTimeout)
				defer cancel()
				status, err := s.requestCrawl(asking, client, relay)
				switch {
				case err == nil && status < 300:
					s.log.InfoContext(ctx, "a relay follows the hold", "relay", relay)
					return true
				case err == nil && status < 500 && status != http.StatusTooManyRequests:
					s.log.WarnContext(ctx, "a relay does not want to follow the hold", "relay", relay, "status", status)
					return true
				case ctx.Err() == nil:
					s.log.WarnContext(ctx, "a relay could not be asked to follow the hold; it is tried again", "relay", relay, "status", status, "error", err)
				}
				return false
			})
		}
		s.done.Go(func() { background.Keep(ctx, s.log, "request for a crawl", func() {}, ask) })
	}
}

// requestCrawl calls com.atproto.sync.requestCrawl.
func (s *Server) requestCrawl(ctx context.Context, client *http.Client, relay string) (status int, err error) {
	u, err := url.Parse(s.self.url)
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(map[string]string{"hostname": u.Host})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(relay, "/")+"/xrpc/com.atproto.sync.requestCrawl", bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("ask a relay: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
