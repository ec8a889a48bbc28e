// Package restore follows the page that says how an operator's backups are put back, with the page's own words.
package restore

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/store"
	"atcr.io/operator/controllers/controltest"
)

const page = "../../api/v1alpha1/appview.md"

func TestMain(m *testing.M) { os.Exit(controltest.Main(m)) }

// job is the one of the page.
func job(t *testing.T) *batchv1.Job {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)```yaml\n# restore.yaml\n(.*?)```").FindSubmatch(text)
	require.NotNil(t, found, "the page has a restore.yaml")
	out := &batchv1.Job{}
	require.NoError(t, yaml.UnmarshalStrict(found[1], out))
	return out
}

// node stands in for the kubelet: it runs a container's arguments with its variables, and with folders where its volumes
// would be mounted.
type node struct {
	testing.TB
	binary  string
	folders map[string]string // by claim
}

func (n *node) run(pod corev1.PodSpec, args ...string) string {
	n.Helper()
	c := pod.Containers[0]
	folder := map[string]string{} // by mount path
	for _, m := range c.VolumeMounts {
		for _, v := range pod.Volumes {
			if v.Name == m.Name && v.PersistentVolumeClaim != nil {
				claim := v.PersistentVolumeClaim.ClaimName
				if n.folders[claim] == "" {
					n.folders[claim] = n.TempDir()
				}
				folder[m.MountPath] = n.folders[claim]
			}
		}
	}
	cmd := exec.CommandContext(n.Context(), n.binary, args...)
	for _, e := range c.Env {
		value := e.Value
		for path, dir := range folder {
			if value == path || strings.HasPrefix(value, path+"/") {
				value = dir + strings.TrimPrefix(value, path)
			}
		}
		cmd.Env = append(cmd.Env, e.Name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	require.NoError(n, err, "%v: %s", args, out)
	return string(out)
}

func open(t *testing.T, dir string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "ui.db"), Exclusive: true})
	require.NoError(t, err)
	return db
}

func session(credential string) store.PDSSession {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	return store.PDSSession{Credential: credential, DID: "did:plc:a", PDS: "https://pds", Sealed: []byte{1},
		ExpiresAt: at, EndsAt: at, Version: 1, UpdatedAt: at}
}

// The server's own pod makes the backup, as the operator rendered it; the page's Job restores it.
func TestThePageRestoresWhatTheServerBackedUp(t *testing.T) {
	e := controltest.New(t)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace}}
	controltest.Update(e, ns, func(ns *corev1.Namespace) { ns.Labels["pod-security.kubernetes.io/enforce"] = "restricted" })
	e.Operator()
	e.Kubelet()
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
	av.Spec.DefaultHold = &v1alpha1.DefaultHold{DID: "did:web:hold.example.com"}
	av.Spec.Database.SQLite.Backup = &v1alpha1.Backup{}
	e.Create(av)
	e.AppView("registry", "Ready=True")
	server := &appsv1.Deployment{}
	e.Get("registry", server)

	n := &node{t, filepath.Join(t.TempDir(), "atcr-appview"), map[string]string{}}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", n.binary, "atcr.io/operator/appview/cmd/atcr-appview").CombinedOutput()
	require.NoError(t, err, string(out))
	n.folders["registry-data"] = t.TempDir()
	db := open(t, n.folders["registry-data"])
	require.NoError(t, db.SaveSession(t.Context(), session("kept")))
	made := n.run(command(server.Spec.Template.Spec), "backup", "now")
	require.Contains(t, made, n.folders["registry-backup"], "backups are on their own claim")
	require.NoError(t, db.SaveSession(t.Context(), session("mistake")))
	require.NoError(t, db.Close())

	j := job(t)
	e.Create(j)
	require.Equal(t, server.Spec.Template.Spec.SecurityContext.FSGroup, j.Spec.Template.Spec.SecurityContext.FSGroup)
	pod := &corev1.Pod{Spec: j.Spec.Template.Spec}
	pod.Name = "restore"
	e.Create(pod) // the cluster admits it under the restricted profile
	said := n.run(j.Spec.Template.Spec, j.Spec.Template.Spec.Containers[0].Args...)
	require.Contains(t, said, "restored "+n.folders["registry-data"]+"/ui.db from "+strings.TrimSpace(made))

	db = open(t, n.folders["registry-data"])
	defer db.Close()
	_, err = db.SessionByCredential(t.Context(), "kept")
	require.NoError(t, err)
	_, err = db.SessionByCredential(t.Context(), "mistake")
	require.ErrorIs(t, err, store.ErrNotFound, "the database is that of the backup")
}

// command is a pod of the server's with what the backup command reads: not the runtime file and keys, which nobody mounts
// here.
func command(pod corev1.PodSpec) corev1.PodSpec {
	out := *pod.DeepCopy()
	var env []corev1.EnvVar
	for _, v := range out.Containers[0].Env {
		if v.Name == names.UIDatabasePath || v.Name == names.BackupDir || v.Name == names.BackupKeep || v.Name == names.BackupInterval {
			env = append(env, v)
		}
	}
	out.Containers[0].Env = env
	return out
}
