package pds

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
	cbor "github.com/ipfs/go-ipld-cbor"
)

const (
	// frameTimeout is how long a consumer may take for one message.
	frameTimeout = time.Minute
	// pingInterval keeps idle connections open through proxies, and finds dead ones.
	pingInterval = 30 * time.Second
)

// subscribeRepos is the firehose: one binary message per event, from `cursor` on.
func (h *handler) subscribeRepos(w http.ResponseWriter, r *http.Request) error {
	cursor := int64(-1)
	if raw := r.URL.Query().Get("cursor"); raw != "" {
		var err error
		if cursor, err = strconv.ParseInt(raw, 10, 64); err != nil || cursor < 0 {
			return InvalidRequest("cursor must be a sequence number")
		}
	}
	sub, err := h.e.Subscribe(r.Context(), cursor)
	future := errors.Is(err, ErrFutureCursor)
	if err != nil && !future {
		return err
	}
	// Origin is not checked: the stream is public and knows no cookies.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return nil // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }() // the peer may be gone: nothing to tell
	ctx := conn.CloseRead(r.Context())
	if future {
		_ = sendFrame(ctx, conn, -1, "", map[string]any{"error": "FutureCursor", "message": "Cursor in the future."})
		_ = conn.Close(websocket.StatusPolicyViolation, "FutureCursor")
		return nil
	}
	if sub.Outdated() {
		info := map[string]any{"name": "OutdatedCursor", "message": "Requested cursor exceeded limit. Possibly missing events"}
		if err := sendFrame(ctx, conn, 1, "#info", info); err != nil {
			return nil
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go ping(ctx, stop, conn)
	for {
		ev, err := sub.Next(ctx)
		if errors.Is(err, ErrConsumerTooSlow) {
			_ = sendFrame(ctx, conn, -1, "", map[string]any{"error": "ConsumerTooSlow", "message": "Stream consumer too slow"})
			_ = conn.Close(websocket.StatusPolicyViolation, "ConsumerTooSlow")
			return nil
		}
		if err != nil {
			if ctx.Err() == nil {
				_ = conn.Close(websocket.StatusGoingAway, "the server is stopping")
			}
			return nil
		}
		if err := send(ctx, conn, ev.Frame); err != nil {
			return nil
		}
	}
}

func ping(ctx context.Context, stop context.CancelFunc, conn *websocket.Conn) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		wait, cancel := context.WithTimeout(ctx, pingInterval)
		err := conn.Ping(wait)
		cancel()
		if err != nil {
			stop()
			return
		}
	}
}

func send(ctx context.Context, conn *websocket.Conn, message []byte) error {
	ctx, cancel := context.WithTimeout(ctx, frameTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageBinary, message)
}

// sendFrame sends a message that is no event: information, or an error (op -1, without a type).
func sendFrame(ctx context.Context, conn *websocket.Conn, op int, kind string, body map[string]any) error {
	head := map[string]any{"op": op}
	if kind != "" {
		head["t"] = kind
	}
	header, err := cbor.DumpObject(head)
	if err != nil {
		return fmt.Errorf("encode a message header: %w", err)
	}
	content, err := cbor.DumpObject(body)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	return send(ctx, conn, append(header, content...))
}
