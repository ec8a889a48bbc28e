package appview

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/render"
)

// spaces is a server that says how large its database is, and is looked at again and again.
type spaces struct {
	r     *Reconciler
	av    v1alpha1.AppView
	now   time.Time
	bytes int64 // that it says; 0: it cannot be asked
	asked int
}

// Ready implements Readiness.
func (s *spaces) Ready(context.Context, string) (names.Ready, error) {
	if s.asked++; s.bytes == 0 {
		return names.Ready{}, errors.New("no connection")
	}
	return names.Ready{Database: &names.DatabaseState{Bytes: s.bytes, Free: 1 << 30, Schema: s.bytes >> 24}}, nil
}

func newSpaces() *spaces {
	s := &spaces{now: time.Now()}
	s.av.Name = "registry"
	s.r = &Reconciler{servers: newServers(nil, s)}
	return s
}

// look is what status says of the database after a look at a pod.
func (s *spaces) look(pod types.UID) v1alpha1.DatabaseStatus {
	sc := newScope(&s.av, render.Defaults{}, metav1.NewTime(s.now))
	if sc.status.Database.ClaimName != sc.settings.ClaimName {
		sc.status.Database = v1alpha1.DatabaseStatus{ClaimName: sc.settings.ClaimName}
	}
	s.r.space(context.Background(), sc, []corev1.Pod{{
		ObjectMeta: metav1.ObjectMeta{UID: pod}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1"},
	}})
	s.av.Status = sc.status
	return sc.status.Database
}

// Each question to a server that does not answer holds up whoever asks.
func TestAMuteServerIsAskedOnceAMinute(t *testing.T) {
	t.Parallel()
	s := newSpaces()
	for range 10 {
		s.look("a")
	}
	require.Equal(t, 1, s.asked)
	s.now = s.now.Add(time.Minute)
	s.look("a")
	require.Equal(t, 2, s.asked)
	s.look("b")
	require.Equal(t, 3, s.asked, "another one at once")
}

func TestWhatIsKnownOfAFileIsSaidOfNoOther(t *testing.T) {
	t.Parallel()
	s := newSpaces()
	s.bytes = 16 << 20
	require.Equal(t, v1alpha1.DatabaseStatus{ClaimName: "registry-data", Bytes: 16 << 20, Schema: 1}, s.look("a"))
	s.bytes = 0
	require.EqualValues(t, 16<<20, s.look("b").Bytes, "another server has the same file")

	s.av.Spec.Database.SQLite.ExistingClaim = "mine"
	s.bytes = 32 << 20
	s.now = s.now.Add(time.Hour)
	require.Equal(t, v1alpha1.DatabaseStatus{ClaimName: "mine"}, s.look("b"), "it still has the file from before")
	s.bytes = 0
	require.Equal(t, v1alpha1.DatabaseStatus{ClaimName: "mine"}, s.look("c"))
	s.bytes = 48 << 20
	s.now = s.now.Add(time.Minute)
	require.Equal(t, v1alpha1.DatabaseStatus{ClaimName: "mine", Bytes: 48 << 20, Schema: 3}, s.look("c"))
}

func TestAFileThatGoesWithItsPodIsForgottenWithIt(t *testing.T) {
	t.Parallel()
	s := newSpaces()
	s.av.Spec.Database.Type = v1alpha1.DatabaseNone
	s.bytes = 16 << 20
	require.EqualValues(t, 16<<20, s.look("a").Bytes)
	s.bytes = 0
	require.Zero(t, s.look("b").Bytes)
}
