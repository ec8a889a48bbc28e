package appview

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
)

const (
	// spaceEvery is how often the server is asked how much room its database has, and soonEvery while it has none or the
	// server does not answer.
	spaceEvery = 10 * time.Minute
	soonEvery  = time.Minute

	// A volume with less than spaceLow left is full: SQLite's log alone may need as much. It is not with twice that.
	spaceLow  = 16 << 20
	spaceStep = 16 << 20 // of what status says
)

// seenSpace is what a server said of its SQLite database.
type seenSpace struct {
	state *names.DatabaseState // nil: nothing
	until time.Time            // when it is asked again
	pod   types.UID            // which was asked; another one may be of another release
	claim string               // that has the file; empty: it goes with the pod
}

// space says when there is no room for the SQLite database. The server then goes on with what needs no write.
func (r *Reconciler) space(ctx context.Context, sc *scope, pods []corev1.Pod) {
	key := types.NamespacedName{Namespace: sc.appView.Namespace, Name: sc.appView.Name}
	claim := ""
	if sc.settings.SQLite() {
		claim = sc.settings.ClaimName
	}
	said := r.servers.space(key)
	// A server that was asked about another file has not got this one: it is to be replaced.
	if at := slices.IndexFunc(pods, func(p corev1.Pod) bool { return stays(&p) }); at >= 0 && (said.claim == claim || said.pod != pods[at].UID) {
		said = r.askSpace(ctx, sc, said, claim, &pods[at]) // one server has the file
		r.servers.setSpace(key, said)
		sc.again(said.until.Sub(sc.now.Time))
	}
	if said.state == nil || said.claim != claim {
		return
	}
	sc.status.Database.Schema = said.state.Schema
	sc.status.Database.Bytes = (said.state.Bytes + spaceStep - 1) / spaceStep * spaceStep
	was := sc.conditions.Get(v1alpha1.ConditionDatabaseReady)
	if was == nil || was.Reason != v1alpha1.ReasonClaimBound && was.Reason != v1alpha1.ReasonNotRequired || !full(said.state, sc.wasFull()) {
		return
	}
	sc.stalled = true
	sc.conditions.False(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonStorageFull,
		sc.noRoom()+". Pulls of what the registry knows go on; logins and pushes fail")
}

// askSpace asks the server in a pod, if it is time to.
func (r *Reconciler) askSpace(ctx context.Context, sc *scope, said seenSpace, claim string, p *corev1.Pod) seenSpace {
	now, another := sc.now.Time, said.pod != p.UID
	requested := sc.status.LastHandledReconcileAt != sc.appView.Status.LastHandledReconcileAt
	if !requested && now.Before(said.until) && !another {
		return said
	}
	if another && said.pod != "" && (claim == "" || said.claim != claim) { // its file is another
		said.state = nil
		sc.status.Database.Bytes, sc.status.Database.Schema = 0, 0
	}
	said.pod, said.claim, said.until = p.UID, claim, now.Add(soonEvery)
	got, err := r.servers.readiness.Ready(ctx, p.Status.PodIP)
	if err != nil {
		return said
	}
	if said.state = got.Database; !full(said.state, false) {
		said.until = now.Add(spaceEvery)
	}
	return said
}

// noRoom says that the disk of the database is full, and what helps.
func (sc *scope) noRoom() string {
	if s := sc.settings; s.OwnClaim && s.SQLite() {
		return fmt.Sprintf("the volume of PersistentVolumeClaim %s is full: make it larger (spec.database.sqlite.size), or delete what else is on it", s.ClaimName)
	} else if s.SQLite() {
		return fmt.Sprintf("the volume of PersistentVolumeClaim %s is full: make it larger, or delete what else is on it", s.ClaimName)
	}
	return "the disk of the server's node is full: make room there, or delete the pod to have another node run it"
}

// full says whether a database has no room; once it had none, it takes twice as much to be well.
func full(s *names.DatabaseState, before bool) bool {
	least := int64(spaceLow)
	if before {
		least *= 2
	}
	return s != nil && s.Free < least
}

// wasFull says whether the condition has said so.
func (sc *scope) wasFull() bool {
	was := meta.FindStatusCondition(sc.appView.Status.Conditions, v1alpha1.ConditionDatabaseReady)
	return was != nil && was.Reason == v1alpha1.ReasonStorageFull
}

func (s *servers) space(appView types.NamespacedName) seenSpace {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spaces[appView]
}

func (s *servers) setSpace(appView types.NamespacedName, said seenSpace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spaces[appView] = said
}
