package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// startDistribution starts the reference registry, built from its Go module: its access log off, its blob descriptors
// cached in memory, as fast as it can be configured. With a network it accepts that network's tokens and nothing else.
func (r *run) startDistribution(ctx context.Context, name, storage string, issuer *network) (*peer, error) {
	binary, err := tool(ctx, "registry")
	if err != nil {
		return nil, err
	}
	free, err := ports(1)
	if err != nil {
		return nil, err
	}
	dir, host := filepath.Join(r.dir, name), fmt.Sprintf("127.0.0.1:%d", free[0])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if storage == "" {
		storage = fmt.Sprintf(`{filesystem: {rootdirectory: %q}, cache: {blobdescriptor: inmemory}}`, filepath.Join(dir, "blobs"))
	}
	p := &peer{name: name, host: host, moves: true}
	auth := ""
	if issuer != nil {
		jwks := filepath.Join(dir, "jwks.json")
		if err := download(ctx, "http://"+issuer.host+"/auth/jwks.json", jwks); err != nil {
			return nil, err
		}
		p.private, p.tokens = true, issuer.tokens
		auth = fmt.Sprintf("auth: {token: {realm: %q, service: %s, issuer: %s, jwks: %q, signingalgorithms: [ES256]}}\n",
			issuer.tokens.realm, issuer.tokens.service, issuer.tokens.service, jwks)
	}
	config := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: %s
http: {addr: %q, secret: bench}
%s`, storage, host, auth), 0o600); err != nil {
		return nil, err
	}
	s, err := r.launch(ctx, program{name: name, binary: binary, args: []string{"serve", config}, ready: "http://" + host + "/v2/",
		env: []string{"OTEL_TRACES_EXPORTER=none"}})
	if err != nil {
		return nil, err
	}
	p.servers = []*process{s}
	return p, nil
}

func download(ctx context.Context, url, into string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	return os.WriteFile(into, raw, 0o600)
}

// Environment variables that name other registries to run beside.
const (
	EnvZot    = "BENCH_ZOT"    // path of a zot binary
	EnvOlareg = "BENCH_OLAREG" // path of an olareg binary
	// EnvPeers is any other, as name=command; several are separated by ";". {port}, {addr} and {dir} are replaced.
	EnvPeers = "BENCH_PEERS"
)

// startOthers starts what the environment names. None of them asks for tokens.
func (r *run) startOthers(ctx context.Context) ([]*peer, error) {
	var peers []*peer
	start := func(name, binary string, args func(port int, dir string) ([]string, error)) error {
		free, err := ports(1)
		if err != nil {
			return err
		}
		dir := filepath.Join(r.dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		list, err := args(free[0], dir)
		if err != nil {
			return err
		}
		host := fmt.Sprintf("127.0.0.1:%d", free[0])
		s, err := r.launch(ctx, program{name: name, binary: binary, args: list, ready: "http://" + host + "/v2/"})
		if err != nil {
			return err
		}
		peers = append(peers, &peer{name: name, host: host, servers: []*process{s}, moves: true})
		return nil
	}
	if binary := os.Getenv(EnvOlareg); binary != "" {
		if err := start("olareg", binary, func(port int, dir string) ([]string, error) {
			return []string{"serve", "--port", fmt.Sprint(port), "--dir", dir, "--store-type", "dir"}, nil
		}); err != nil {
			return nil, err
		}
	}
	if binary := os.Getenv(EnvZot); binary != "" {
		if err := start("zot", binary, func(port int, dir string) ([]string, error) {
			config := filepath.Join(dir, "config.json")
			return []string{"serve", config}, os.WriteFile(config, fmt.Appendf(nil, `{"distSpecVersion": "1.1.1",
				"storage": {"rootDirectory": %q}, "http": {"address": "127.0.0.1", "port": "%d"}, "log": {"level": "error"}}`,
				filepath.Join(dir, "blobs"), port), 0o600)
		}); err != nil {
			return nil, err
		}
	}
	for spec := range strings.SplitSeq(os.Getenv(EnvPeers), ";") {
		name, command, ok := strings.Cut(strings.TrimSpace(spec), "=")
		if spec == "" {
			continue
		}
		words := strings.Fields(command)
		if !ok || len(words) == 0 {
			return nil, fmt.Errorf("%s: %q is not name=command", EnvPeers, spec)
		}
		binary, err := exec.LookPath(words[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", EnvPeers, err)
		}
		if err := start(name, binary, func(port int, dir string) ([]string, error) {
			fill := strings.NewReplacer("{port}", fmt.Sprint(port), "{addr}", fmt.Sprintf("127.0.0.1:%d", port), "{dir}", dir)
			var args []string
			for _, w := range words[1:] {
				args = append(args, fill.Replace(w))
			}
			return args, nil
		}); err != nil {
			return nil, err
		}
	}
	return peers, nil
}

// startFloor starts a bare net/http handler that answers everything from memory: what no registry can be below. It is
// this program once more; see [Floor].
func (r *run) startFloor(ctx context.Context) (*peer, error) {
	self, err := build(ctx, r.dir, "test/bench/cmd/atcr-bench")
	if err != nil {
		return nil, err
	}
	free, err := ports(1)
	if err != nil {
		return nil, err
	}
	host := fmt.Sprintf("127.0.0.1:%d", free[0])
	s, err := r.launch(ctx, program{name: "floor", binary: self, args: []string{"floor", host}, ready: "http://" + host + "/v2/"})
	if err != nil {
		return nil, err
	}
	return &peer{name: "floor", host: host, servers: []*process{s}}, nil
}
