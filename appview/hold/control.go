package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"atcr.io/operator/appview/hold/xrpc"
)

// controlPath is the socket by which commands on the same machine reach a running hold. Its folder is only the hold's
// user's, so whoever can open it may do what the hold can.
func (c Config) controlPath() string { return filepath.Join(c.DatabaseDir, "control.sock") }

// listenControl opens the socket. Nobody else uses the folder, so a socket that is there is of a hold that was killed.
func (c Config) listenControl() (net.Listener, error) {
	if err := os.Remove(c.controlPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", c.controlPath())
	if err != nil {
		return nil, fmt.Errorf("control socket (HOLD_DATABASE_DIR may be too long a path): %w", err)
	}
	return l, nil
}

// control answers commands on the socket.
func (s *Server) control() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /gc", s.answer(func(w http.ResponseWriter, r *http.Request) error {
		g, err := s.CollectGarbage(r.Context(), r.URL.Query().Get("dry-run") == "true")
		if errors.Is(err, ErrCollecting) {
			return xrpc.Errorf(http.StatusConflict, "Busy", "A garbage collection runs already; wait for its end in the hold's log.")
		}
		if err != nil {
			return err
		}
		xrpc.WriteJSON(w, http.StatusOK, g)
		return nil
	}))
	return mux
}

// ErrNotRunning says that no hold runs on the database directory.
var ErrNotRunning = errors.New("no hold runs on this database directory")

// AskForCollection has the hold that runs on the same database directory collect its garbage, and waits for the end.
// It fails with [ErrNotRunning] when none runs.
func AskForCollection(ctx context.Context, cfg Config, dryRun bool) (g Garbage, err error) {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.controlPath())
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://hold/gc?dry-run=%t", dryRun), nil)
	if err != nil {
		return g, err
	}
	resp, err := client.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return g, ErrNotRunning
	}
	if err != nil {
		return g, fmt.Errorf("ask the running hold: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e struct{ Message string }
		_ = json.NewDecoder(resp.Body).Decode(&e) // the status tells
		return g, fmt.Errorf("the running hold answered %s: %s", resp.Status, strings.TrimSuffix(e.Message, "."))
	}
	return g, json.NewDecoder(resp.Body).Decode(&g)
}
