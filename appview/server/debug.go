package server

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/observe"
	"atcr.io/operator/appview/store/backup"
)

// DebugHandler serves the debug listener: probes, metrics, profiles. It is not for the public.
func (s *Server) DebugHandler() http.Handler { return observe.Debug(s.ready, s.metrics.registry) }

// ready names the keys and the runtime file that are in force. A hold or PDS that is down does not make the server
// unready: what is cached is still served.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	set := s.keys.Set()
	out := names.Ready{Status: names.StatusOK, KeySetHash: set.Hash(), SigningKey: set.SignerKID(), RuntimeHash: s.runtime.Current().Hash}
	if s.backups != nil {
		last, failed := s.backups.State()
		out.Backup = &names.BackupState{Last: last, Failed: failed}
	}
	out.Database = s.space()
	status := http.StatusOK
	switch err := s.db.Ping(r.Context()); {
	case s.draining.Load():
		out.Status, status = names.StatusStopping, http.StatusServiceUnavailable
	case err != nil:
		s.log.WarnContext(r.Context(), "not ready", "error", err)
		out.Status, status = names.StatusNoDatabase, http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // the prober may have left
}

// space is how large the database is, and may become; nil: it is no file.
func (s *Server) space() *names.DatabaseState {
	path := s.cfg.SQLitePath()
	if path == "" {
		return nil
	}
	free, err := backup.Available(filepath.Dir(path))
	if err != nil {
		return nil
	}
	out := &names.DatabaseState{Free: free, Schema: s.db.Schema()}
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(path + suffix); err == nil {
			out.Bytes += info.Size()
		}
	}
	return out
}
