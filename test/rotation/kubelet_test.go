package rotation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/controllers/controltest"
)

// late is how long a kubelet may take to bring a changed Secret to its pod: three times what the operator is told.
const late = 3 * propagation

// mount is a Secret's volume in one pod.
type mount struct {
	dir string
	n   int
}

// write replaces the files as the kubelet's atomic writer does: a dated folder, and one rename of ..data.
func (m *mount) write(content map[string][]byte) error {
	m.n++
	dated := fmt.Sprintf("..2026_%d", m.n)
	if err := os.MkdirAll(filepath.Join(m.dir, dated), 0o700); err != nil {
		return err
	}
	for name, b := range content {
		if err := os.WriteFile(filepath.Join(m.dir, dated, name), b, 0o600); err != nil {
			return err
		}
		if m.n == 1 {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name)); err != nil {
				return err
			}
		}
	}
	data, next := filepath.Join(m.dir, "..data"), filepath.Join(m.dir, "..data_tmp")
	old, _ := os.Readlink(data) // none the first time
	if err := os.Symlink(dated, next); err != nil {
		return err
	}
	if err := os.Rename(next, data); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(m.dir, old))
}

// volumes brings the Secret to each folder now, and after each change of it to one folder after the other: each takes a
// time of its own, and gets what the Secret is then, as kubelets do.
func volumes(t *testing.T, e *controltest.Env, secret string, folders ...string) {
	t.Helper()
	first := &corev1.Secret{}
	e.Get(secret, first)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	watch, err := e.Client.Watch(ctx, &corev1.SecretList{}, client.InNamespace(e.Namespace))
	require.NoError(t, err)

	var (
		mu     sync.Mutex
		latest = first.Data
		wg     sync.WaitGroup
		wake   []chan struct{}
	)
	for _, dir := range folders {
		m, changed := &mount{dir: dir}, make(chan struct{}, 1)
		require.NoError(t, m.write(first.Data))
		wake = append(wake, changed)
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-changed:
				}
				arrives := time.NewTimer(rand.N(late))
				select {
				case <-ctx.Done():
					arrives.Stop()
					return
				case <-arrives.C:
				}
				mu.Lock()
				data := latest
				mu.Unlock()
				if err := m.write(data); err != nil {
					t.Errorf("bringing Secret %s to %s: %v", secret, m.dir, err)
				}
			}
		})
	}
	wg.Go(func() {
		for ev := range watch.ResultChan() {
			s, ok := ev.Object.(*corev1.Secret)
			if !ok || s.Name != secret {
				continue
			}
			mu.Lock()
			latest = s.Data
			mu.Unlock()
			for _, c := range wake {
				select {
				case c <- struct{}{}:
				default: // it is on its way already
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); watch.Stop(); wg.Wait() })
}
