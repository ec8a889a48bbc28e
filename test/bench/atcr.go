package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// binaries are our programs, built for this run.
type binaries struct{ appview, hold, devnet string }

func buildOurs(ctx context.Context, into string) (b binaries, err error) {
	for _, p := range []struct {
		pkg string
		out *string
	}{
		{"appview/cmd/atcr-appview", &b.appview}, {"appview/cmd/atcr-hold", &b.hold}, {"appview/cmd/atcr-dev", &b.devnet},
	} {
		if *p.out, err = build(ctx, into, p.pkg); err != nil {
			return b, err
		}
	}
	return b, nil
}

// EnvBase is a folder with atcr-appview and atcr-hold of another commit (make build): they run beside ours, as "atcr-base".
const EnvBase = "BENCH_BASE"

// earlier are the programs to compare ours with, if any.
func (b binaries) earlier() (_ binaries, ok bool) {
	dir := os.Getenv(EnvBase)
	return binaries{appview: filepath.Join(dir, "atcr-appview"), hold: filepath.Join(dir, "atcr-hold"), devnet: b.devnet}, dir != ""
}

// network is an AppView with its hold and a development PDS, each a process of its own on loopback.
type network struct {
	*peer
	dir     string
	did     string // of the owner
	pds     string // URL
	appview program
}

// storage is where a hold keeps blobs: environment for atcr-hold.
type storage []string

func onFilesystem(dir string) storage {
	return storage{"STORAGE_DRIVER=filesystem", "STORAGE_ROOT_DIR=" + filepath.Join(dir, "blobs")}
}

// startNetwork starts the three. frontPDS, when not nil, is given the PDS's own address and answers with the URL under
// which everybody else reaches it.
func (r *run) startNetwork(ctx context.Context, name string, b binaries, store storage, frontPDS func(addr string) (string, error)) (*network, error) {
	dir := filepath.Join(r.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	free, err := ports(5)
	if err != nil {
		return nil, err
	}
	api, debug, holdPort, holdDebug, pdsPort := free[0], free[1], free[2], free[3], free[4]
	n := &network{dir: dir, pds: fmt.Sprintf("http://localhost:%d", pdsPort)}
	pdsAddr := fmt.Sprintf("127.0.0.1:%d", pdsPort)
	if frontPDS != nil {
		if n.pds, err = frontPDS(pdsAddr); err != nil {
			return nil, err
		}
	}
	devnet, err := r.launch(ctx, program{name: "pds", binary: b.devnet, ready: "http://" + pdsAddr + "/xrpc/_health",
		args: []string{"devnet", "--addr=" + pdsAddr, "--public-url=" + n.pds, "--data=" + filepath.Join(dir, "devnet"),
			"--account=" + owner + ":bench-account-password", "--app-password=" + owner + "=" + appPassword}})
	if err != nil {
		return nil, err
	}
	var answer struct{ DID string }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.pds+"/xrpc/com.atproto.identity.resolveHandle?handle="+owner, nil)
	if err != nil {
		return nil, err
	}
	if err := fetch(req, &answer); err != nil {
		return nil, fmt.Errorf("resolve %s: %w", owner, err)
	}
	n.did = answer.DID

	const private = "127.0.0.0/8,::1/128"
	hold, err := r.launch(ctx, program{name: "hold", binary: b.hold, args: []string{"serve"},
		ready: fmt.Sprintf("http://127.0.0.1:%d/xrpc/_health", holdPort),
		env: append([]string{
			fmt.Sprintf("HOLD_HTTP_ADDR=127.0.0.1:%d", holdPort), fmt.Sprintf("HOLD_DEBUG_ADDR=127.0.0.1:%d", holdDebug),
			fmt.Sprintf("HOLD_PUBLIC_URL=http://localhost:%d", holdPort), "HOLD_OWNER=" + n.did, "HOLD_PUBLIC=true",
			"HOLD_ALLOW_ALL_CREW=true", "HOLD_PLC_URL=" + n.pds, "HOLD_ALLOWED_PRIVATE_CIDRS=" + private,
			"HOLD_DATABASE_DIR=" + filepath.Join(dir, "hold"), "TEST_MODE=true",
		}, store...)})
	if err != nil {
		return nil, err
	}
	n.appview = program{name: "appview", binary: b.appview, args: []string{"serve"},
		ready: fmt.Sprintf("http://127.0.0.1:%d/readyz", debug),
		env: []string{
			fmt.Sprintf("ATCR_HTTP_ADDR=127.0.0.1:%d", api), fmt.Sprintf("ATCR_DEBUG_ADDR=127.0.0.1:%d", debug),
			fmt.Sprintf("ATCR_DEFAULT_HOLD_DID=did:web:localhost%%3A%d", holdPort), "ATCR_PLC_URL=" + n.pds,
			"ATCR_HANDLE_RESOLVER_URL=" + n.pds, "ATCR_ALLOWED_PRIVATE_CIDRS=" + private, "TEST_MODE=true",
			"ATCR_AUTH_KEY_PATH=" + filepath.Join(dir, "keys", "private-key.pem"),
			"ATCR_AUTH_CERT_PATH=" + filepath.Join(dir, "keys", "private-key.crt"),
			"ATCR_SEALING_KEY_PATH=" + filepath.Join(dir, "keys", "sealing.key"),
			"ATCR_DID_KEY_PATH=" + filepath.Join(dir, "keys", "did.key"),
			"ATCR_UI_DATABASE_PATH=" + filepath.Join(dir, "ui.db"), "ATCR_SERVICE_NAME=bench.test",
		}}
	server, err := r.launch(ctx, n.appview)
	if err != nil {
		return nil, err
	}
	host := fmt.Sprintf("127.0.0.1:%d", api)
	n.peer = &peer{name: name, host: host, servers: []*process{server, hold, devnet}, debug: fmt.Sprintf("http://127.0.0.1:%d", debug),
		tokens: &tokenServer{realm: "http://" + host + "/auth/token", service: "bench.test", fetched: map[string]issued{}}}
	return n, nil
}

// restart ends the AppView and starts it again on the same data.
func (r *run) restart(ctx context.Context, n *network) error {
	n.servers[0].stop()
	server, err := r.launch(ctx, n.appview)
	if err == nil {
		n.servers[0] = server
	}
	return err
}

// startS3 starts an S3 server (versitygw) with one bucket, and gives a hold's environment and a distribution's
// configuration for it.
func (r *run) startS3(ctx context.Context) (storage, *process, string, error) {
	binary, err := tool(ctx, "versitygw")
	if err != nil {
		return nil, nil, "", err
	}
	free, err := ports(1)
	if err != nil {
		return nil, nil, "", err
	}
	dir := filepath.Join(r.dir, "s3")
	const bucket = "bench"
	if err := os.MkdirAll(filepath.Join(dir, bucket), 0o700); err != nil { // a bucket is a folder
		return nil, nil, "", err
	}
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails, see its documentation
	secret := hex.EncodeToString(raw)
	addr := fmt.Sprintf("127.0.0.1:%d", free[0])
	s, err := r.launch(ctx, program{name: "s3", binary: binary, args: []string{"--port", addr, "posix", dir}, ready: "http://" + addr,
		env: []string{"ROOT_ACCESS_KEY=bench", "ROOT_SECRET_KEY=" + secret}})
	if err != nil {
		return nil, nil, "", err
	}
	hold := storage{"STORAGE_DRIVER=s3", "S3_ENDPOINT=http://" + addr, "S3_BUCKET=" + bucket, "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=" + secret}
	config := fmt.Sprintf(`{s3: {accesskey: bench, secretkey: %q, region: us-east-1, regionendpoint: "http://%s", forcepathstyle: true,
  bucket: %s, rootdirectory: /distribution, secure: false}, cache: {blobdescriptor: inmemory}}`, secret, addr, bucket)
	return hold, s, config, nil
}
