package main

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"atcr.io/operator/controllers/controltest"
)

// gate is between the process of an operator and its API server. At one of the operator's writes to a namespace it kills
// the process: the API server has made the write, and the operator never hears of it. Events are no writes.
type gate struct {
	kubeconfig string

	mu        sync.Mutex
	settled   *sync.Cond
	namespace string
	left      int    // writes to it until the operator is killed; 0: it lives
	open      int    // writes to it that are on their way
	killedAt  string // "METHOD path"
	operator  *exec.Cmd
	ended     chan struct{}
	said      *bytes.Buffer // by the operator; read it when that has ended
}

var errKilled = errors.New("the operator is gone")

func newGate(t *testing.T) *gate {
	t.Helper()
	cfg := controltest.Config(t)
	api, err := url.Parse(cfg.Host)
	require.NoError(t, err)
	transport, err := rest.TransportFor(cfg)
	require.NoError(t, err)
	g := &gate{}
	g.settled = sync.NewCond(&g.mu)
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(api) },
		Transport:      transport,
		FlushInterval:  -1, // watches
		ModifyResponse: g.answered,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:       log.New(io.Discard, "", 0), // whoever was killed reads no more
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.enters(r) {
			defer g.leaves()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { // before the server closes, which waits for watches
		g.kill()
		if t.Failed() && g.said != nil {
			t.Logf("the last operator said:\n%s", g.said)
		}
	})
	g.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"gate": {Server: s.URL}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"operator": {}},
		Contexts:       map[string]*clientcmdapi.Context{"gate": {Cluster: "gate", AuthInfo: "operator"}},
		CurrentContext: "gate",
	}, g.kubeconfig))
	return g
}

// about says whether r is a write to the namespace that counts. The lock is held.
func (g *gate) about(r *http.Request) bool {
	return r.Method != http.MethodGet && g.namespace != "" &&
		strings.Contains(r.URL.Path, "/namespaces/"+g.namespace+"/") && !strings.Contains(r.URL.Path, "/events")
}

func (g *gate) enters(r *http.Request) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.about(r) {
		return false
	}
	g.open++
	return true
}

func (g *gate) leaves() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	g.settled.Broadcast()
}

// answered is told what the API server has answered, before the operator is.
func (g *gate) answered(r *http.Response) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left == 0 || !g.about(r.Request) {
		return nil
	}
	if g.left--; g.left > 0 {
		return nil
	}
	g.killedAt = r.Request.Method + " " + r.Request.URL.Path
	return errors.Join(errKilled, g.operator.Process.Kill())
}

// killAt lets the operator end at its n-th write to a namespace.
func (g *gate) killAt(namespace string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.namespace, g.left, g.killedAt = namespace, n, ""
}

// spare lets the operator live from now on, and says at which write it was killed. No write is on its way any more that
// somebody has already seen the outcome of.
func (g *gate) spare() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.open > 0 {
		g.settled.Wait()
	}
	g.left = 0
	return g.killedAt
}

// start starts the operator: this program, which is the real one when the variable is set.
func (g *gate) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "--appview-image="+controltest.Image, "--metrics-bind-address=0", "--health-probe-bind-address=0",
		"--key-propagation=10ms", "--clock-skew=1s", "--log-format=text")
	cmd.Env = []string{operatorVariable + "=1", "KUBECONFIG=" + g.kubeconfig}
	said, ended := &bytes.Buffer{}, make(chan struct{})
	cmd.Stdout, cmd.Stderr = said, said
	g.mu.Lock()
	defer g.mu.Unlock()
	require.NoError(t, cmd.Start())
	g.operator, g.ended, g.said = cmd, ended, said
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed sooner or later
	}()
}

// gone says whether the operator has ended.
func (g *gate) gone() bool {
	g.mu.Lock()
	ended := g.ended
	g.mu.Unlock()
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// kill ends the operator that runs, if one does.
func (g *gate) kill() {
	g.mu.Lock()
	ended := g.ended
	if g.operator != nil {
		_ = g.operator.Process.Kill()
	}
	g.mu.Unlock()
	if ended != nil {
		<-ended
	}
}
