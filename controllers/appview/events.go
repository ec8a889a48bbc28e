package appview

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"atcr.io/operator/api/v1alpha1"
)

// maxNote is the API's limit on the text of an event.
const maxNote = 1024

const action = "Reconcile"

func (r *Reconciler) note(av *v1alpha1.AppView, reason, format string, args ...any) {
	r.event(av, corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...))
}

func (r *Reconciler) warn(av *v1alpha1.AppView, reason, format string, args ...any) {
	r.event(av, corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...))
}

func (r *Reconciler) event(av *v1alpha1.AppView, kind, reason, note string) {
	if len(note) > maxNote {
		note = strings.ToValidUTF8(note[:maxNote-3], "") + "..."
	}
	r.events.Eventf(av, nil, kind, reason, action, "%s", note)
}
