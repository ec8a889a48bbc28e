package config

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/files"
	"atcr.io/operator/appview/config/names"
)

const maxRuntimeFile = 1 << 20 // bytes

// Snapshot is what holds at one moment: the runtime file merged over the environment. It never changes.
type Snapshot struct {
	DefaultHoldDID      string                // canonical
	Holds               map[string]names.Hold // by canonical DID; CABundle is the certificates themselves
	AllowedHosts        []string
	AllowedPrivateCIDRs []netip.Prefix
	AllowedPrivatePorts []int
	Hash                string // [names.RuntimeHash] of the file; empty without one
}

// Hold is the configured hold with this DID. The default hold of the environment counts as configured, with
// nothing but its DID.
func (s *Snapshot) Hold(did string) (names.Hold, bool) {
	did = diddoc.Canonical(did)
	h, ok := s.Holds[did]
	if !ok && did != "" && did == s.DefaultHoldDID {
		return names.Hold{DID: did, Download: names.Redirect}, true
	}
	return h, ok
}

// Runtime is the current [Snapshot], replaced when the file changes.
type Runtime struct {
	env     *Config
	log     *slog.Logger
	current atomic.Pointer[Snapshot]
	last    atomic.Pointer[string] // hash of the last file that was looked at, good or bad
	observe atomic.Pointer[func(error)]
}

// OpenRuntime reads the file that c names, if any. A file that is bad now is an error; one that turns bad later is
// logged, and the last good one stays in force.
func OpenRuntime(c *Config, log *slog.Logger) (*Runtime, error) {
	r := &Runtime{env: c, log: log}
	if c.RuntimeFile == "" {
		s, err := merge(c, &names.Runtime{}, "")
		if err != nil {
			return nil, err
		}
		r.current.Store(s)
		return r, nil
	}
	if _, err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Current is the snapshot to use for one request.
func (r *Runtime) Current() *Snapshot { return r.current.Load() }

// AllowedHosts is for [atcr.io/operator/appview/auth.Challenger].
func (r *Runtime) AllowedHosts() []string { return r.Current().AllowedHosts }

// Policy is for clients of hosts that strangers chose. It follows the file.
func (r *Runtime) Policy() diddoc.Policy {
	return diddoc.Policy{
		AllowedPrivateCIDRs: func() []netip.Prefix { return r.Current().AllowedPrivateCIDRs },
		AllowedPrivatePorts: func() []int { return r.Current().AllowedPrivatePorts },
		DevLoopback:         r.env.TestMode,
	}
}

// OperatorPolicy is for clients of endpoints that the operator configured: holds of the file and of
// ATCR_DEFAULT_HOLD_DID, the PLC directory, the handle resolver.
func (r *Runtime) OperatorPolicy() diddoc.Policy { return r.Policy().ForOperator(true) }

// Observe has f told of each later reload by [Runtime.Watch]: nil when another file was loaded, or why it was not.
func (r *Runtime) Observe(f func(error)) { r.observe.Store(&f) }

// Watch reloads when the file changes.
func (r *Runtime) Watch(w *files.Watcher) {
	if r.env.RuntimeFile == "" {
		return
	}
	w.Add(filepath.Dir(r.env.RuntimeFile), func() {
		changed, err := r.Reload()
		if err != nil {
			r.log.Error("runtime file did not load; the last good one stays", "error", err)
		}
		if f := r.observe.Load(); f != nil && (changed || err != nil) {
			(*f)(err)
		}
	})
}

// Reload reads the file again and says whether the snapshot changed.
func (r *Runtime) Reload() (changed bool, err error) {
	b, err := readLimited(r.env.RuntimeFile)
	if err != nil {
		return false, fmt.Errorf("%s=%s: %w", names.RuntimeFile, r.env.RuntimeFile, err)
	}
	hash := names.RuntimeHash(b)
	if last := r.last.Swap(&hash); last != nil && *last == hash {
		return false, nil
	}
	file, err := names.ParseRuntime(b)
	if err != nil {
		return false, fmt.Errorf("%s=%s: %w", names.RuntimeFile, r.env.RuntimeFile, err)
	}
	s, err := merge(r.env, file, hash)
	if err != nil {
		return false, fmt.Errorf("%s=%s: %w", names.RuntimeFile, r.env.RuntimeFile, err)
	}
	r.current.Store(s)
	r.log.Info("runtime file loaded", "holds", len(s.Holds), "hash", s.Hash)
	return true, nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRuntimeFile+1))
	if err == nil && len(b) > maxRuntimeFile {
		err = fmt.Errorf("runtime file: longer than %d bytes", maxRuntimeFile)
	}
	return b, err
}

// merge is pure.
func merge(c *Config, f *names.Runtime, hash string) (*Snapshot, error) {
	s := &Snapshot{DefaultHoldDID: c.DefaultHoldDID, Holds: map[string]names.Hold{}, Hash: hash}
	if f.DefaultHoldDID != "" {
		did, err := HoldDID(f.DefaultHoldDID)
		if err != nil {
			return nil, fmt.Errorf("runtime file: defaultHoldDID: %w", err)
		}
		s.DefaultHoldDID = did
	}
	for i, h := range f.Holds {
		did, err := HoldDID(h.DID)
		if err != nil {
			return nil, fmt.Errorf("runtime file: holds[%d].did: %w", i, err)
		}
		h.DID = did
		if h.Endpoint != "" {
			if h.Endpoint, err = diddoc.CleanEndpoint(h.Endpoint); err != nil {
				return nil, fmt.Errorf("runtime file: holds[%d].%w", i, err)
			}
		}
		if h.Download == "" {
			h.Download = names.Redirect
		}
		h.CABundle = f.CABundles[h.CABundle]
		s.Holds[did] = h
	}
	cidrs, err := prefixes(f.AllowedPrivateCIDRs)
	if err != nil {
		return nil, fmt.Errorf("runtime file: allowedPrivateCIDRs: %w", err)
	}
	for _, p := range f.AllowedPrivatePorts {
		if p < 1 || p > 65535 {
			return nil, fmt.Errorf("runtime file: allowedPrivatePorts: %d is not a port", p)
		}
	}
	s.AllowedPrivateCIDRs = slices.Concat(c.AllowedPrivateCIDRs, cidrs)
	s.AllowedPrivatePorts = slices.Concat(c.AllowedPrivatePorts, f.AllowedPrivatePorts)
	for _, h := range slices.Concat(c.AllowedHosts, f.AllowedHosts) {
		if h = strings.ToLower(strings.TrimSpace(h)); h != "" && !slices.Contains(s.AllowedHosts, h) {
			s.AllowedHosts = append(s.AllowedHosts, h)
		}
	}
	return s, nil
}
