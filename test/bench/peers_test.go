package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/stretchr/testify/require"
)

const appPassword = "bnch-test-pass-word"

// peer is a registry under measurement.
type peer struct {
	name       string
	repository string // where to push, host:port/path
	auth       authn.Authenticator
	servers    []*process
}

// atcr is our AppView, hold (filesystem) and a development PDS, each a process.
func atcr(b *testing.B) *peer {
	b.Helper()
	dir := b.TempDir()
	api, debug, holdPort, holdDebug, pds := freePort(b), freePort(b), freePort(b), freePort(b), freePort(b)
	pdsURL := fmt.Sprintf("http://localhost:%d", pds)

	devnet := start(b, "devnet", pdsURL+"/xrpc/_health", nil, build(b, "appview/cmd/atcr-dev"), "devnet",
		fmt.Sprintf("--addr=127.0.0.1:%d", pds), "--public-url="+pdsURL, "--data="+filepath.Join(dir, "devnet"),
		"--account=alice.test:bench-account-password", "--app-password=alice.test="+appPassword)
	alice := resolve(b, pdsURL, "alice.test")

	private := "127.0.0.0/8,::1/128"
	hold := start(b, "hold", fmt.Sprintf("http://127.0.0.1:%d/xrpc/_health", holdPort), []string{
		fmt.Sprintf("HOLD_HTTP_ADDR=127.0.0.1:%d", holdPort), fmt.Sprintf("HOLD_DEBUG_ADDR=127.0.0.1:%d", holdDebug),
		fmt.Sprintf("HOLD_PUBLIC_URL=http://localhost:%d", holdPort), "HOLD_OWNER=" + alice, "HOLD_PUBLIC=true",
		"HOLD_ALLOW_ALL_CREW=true", "HOLD_PLC_URL=" + pdsURL, "HOLD_ALLOWED_PRIVATE_CIDRS=" + private,
		"HOLD_DATABASE_DIR=" + filepath.Join(dir, "hold"), "STORAGE_DRIVER=filesystem",
		"STORAGE_ROOT_DIR=" + filepath.Join(dir, "blobs"), "TEST_MODE=true", "HOLD_LOG_LEVEL=warn",
	}, build(b, "appview/cmd/atcr-hold"), "serve")

	server := start(b, "appview", fmt.Sprintf("http://127.0.0.1:%d/v2/", api), []string{
		fmt.Sprintf("ATCR_HTTP_ADDR=127.0.0.1:%d", api), fmt.Sprintf("ATCR_DEBUG_ADDR=127.0.0.1:%d", debug),
		fmt.Sprintf("ATCR_DEFAULT_HOLD_DID=did:web:localhost%%3A%d", holdPort), "ATCR_PLC_URL=" + pdsURL,
		"ATCR_HANDLE_RESOLVER_URL=" + pdsURL, "ATCR_ALLOWED_PRIVATE_CIDRS=" + private, "TEST_MODE=true",
		"ATCR_AUTH_KEY_PATH=" + filepath.Join(dir, "keys", "private-key.pem"),
		"ATCR_AUTH_CERT_PATH=" + filepath.Join(dir, "keys", "private-key.crt"),
		"ATCR_SEALING_KEY_PATH=" + filepath.Join(dir, "keys", "sealing.key"),
		"ATCR_UI_DATABASE_PATH=" + filepath.Join(dir, "ui.db"), "ATCR_LOG_LEVEL=warn",
	}, build(b, "appview/cmd/atcr-appview"), "serve")

	return &peer{
		name:       "atcr",
		repository: fmt.Sprintf("127.0.0.1:%d/alice.test/bench", api),
		auth:       &authn.Basic{Username: "alice.test", Password: appPassword},
		servers:    []*process{server, hold, devnet},
	}
}

// distribution is the reference registry on a filesystem, without authentication.
func distribution(b *testing.B) *peer {
	b.Helper()
	dir, port, debug := b.TempDir(), freePort(b), freePort(b)
	config := filepath.Join(dir, "config.yml")
	require.NoError(b, os.WriteFile(config, fmt.Appendf(nil, `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, cache: {blobdescriptor: inmemory}}
http: {addr: "127.0.0.1:%d", debug: {addr: "127.0.0.1:%d"}}
`, filepath.Join(dir, "blobs"), port, debug), 0o600))
	server := start(b, "distribution", fmt.Sprintf("http://127.0.0.1:%d/v2/", port), nil, tool(b, "registry"), "serve", config)
	return &peer{
		name:       "distribution",
		repository: fmt.Sprintf("127.0.0.1:%d/bench", port),
		auth:       authn.Anonymous,
		servers:    []*process{server},
	}
}

// tool is the path of a program that hack/tools pins.
func tool(b *testing.B, name string) string {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "../../hack/tool.sh", name).Output()
	require.NoError(b, err, "hack/tool.sh %s", name)
	return strings.TrimSpace(string(out))
}

func resolve(b *testing.B, pds, handle string) string {
	b.Helper()
	response, err := http.Get(pds + "/xrpc/com.atproto.identity.resolveHandle?handle=" + handle)
	require.NoError(b, err)
	defer response.Body.Close()
	var answer struct{ DID string }
	require.NoError(b, json.NewDecoder(response.Body).Decode(&answer))
	return answer.DID
}
