package appview

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/internal/apply"
	"atcr.io/operator/controllers/internal/outcome"
	"atcr.io/operator/controllers/render"
)

const (
	// backupSlack is how much older than its interval a backup may become, at least; else a quarter of the interval.
	backupSlack = 15 * time.Minute
	// backupTakes is how long after it is due a backup is looked for.
	backupTakes = 30 * time.Second
	// backupAgain is how soon a server whose backup is not there yet, or failed, is asked again.
	backupAgain = time.Minute
)

// backupClaim makes the claim for backups, or looks at the one that the spec names. What is wrong with it keeps no server
// from running: one that has no claim yet makes no backups until it has.
func (r *Reconciler) backupClaim(ctx context.Context, sc *scope) error {
	b := sc.settings.Backup
	if b == nil || b.ClaimName == "" {
		return nil
	}
	sc.status.Database.BackupClaimName = b.ClaimName
	live := &corev1.PersistentVolumeClaim{}
	if b.OwnClaim {
		_, err := r.keepSize(ctx, sc, b.ClaimName, sc.appView.Spec.Database.SQLite.Backup.Claim.Size, &b.ClaimSize)
		if err != nil {
			return err
		}
		err = apply.Apply(ctx, r.applier, render.BackupClaim(sc.appView, b), live, sc.mayWrite)
		// Its storage class cannot make it larger, say.
		if _, stalled := outcome.IsStalled(err); stalled || apierrors.IsForbidden(err) {
			sc.again(refusedRetry)
			sc.backupTrouble = "no claim for backups as spec.database.sqlite.backup.claim asks for it: " + err.Error()
			b.Mounted = live.UID != "" && sc.owned(live) // a change that is refused leaves it as it is
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.adopt(ctx, sc.appView, live, "PersistentVolumeClaim"); err != nil {
			return err
		}
	} else if err := r.client.Get(ctx, sc.key(b.ClaimName), live); apierrors.IsNotFound(err) {
		sc.backupTrouble = fmt.Sprintf("spec.database.sqlite.backup.claim.existingClaim names PersistentVolumeClaim %s, which does not exist: "+
			"create it, or leave existingClaim out to have one made", b.ClaimName)
		return nil
	} else if err != nil {
		return fmt.Errorf("reading PersistentVolumeClaim %s: %w", b.ClaimName, err)
	}
	b.Mounted = true
	if live.Status.Phase == corev1.ClaimLost {
		sc.backupTrouble = fmt.Sprintf("PersistentVolumeClaim %s has lost its volume: restore the volume, or delete the claim to begin with no backups", b.ClaimName)
	}
	return nil
}

// backups asks the server how its backups go. It makes them; the operator only looks, when the next one is due.
func (r *Reconciler) backups(ctx context.Context, sc *scope) error {
	b, c := sc.settings.Backup, sc.conditions
	switch {
	case sc.otherDatabase:
		return nil // its backups go on
	case sc.settings.PostgreSQL():
		c.False(v1alpha1.ConditionBackupCurrent, v1alpha1.ReasonNotConfigured, "a PostgreSQL has backups of its own: the operator makes none")
		return nil
	case !sc.settings.SQLite():
		c.False(v1alpha1.ConditionBackupCurrent, v1alpha1.ReasonNotConfigured, "spec.database.type is None: nothing is kept that a backup could bring back")
		return nil
	case b == nil:
		c.False(v1alpha1.ConditionBackupCurrent, v1alpha1.ReasonNotConfigured,
			"no backups are made: spec.database.sqlite.backup asks for some")
		return nil
	}
	pods, err := podsOf(ctx, r.client, sc)
	if err != nil {
		return err
	}
	state, asked := r.backupState(ctx, pods)
	if state != nil {
		sc.status.Database.LastBackupTime = nil
		if !state.Last.IsZero() {
			sc.status.Database.LastBackupTime = new(metav1.NewTime(state.Last.Truncate(time.Second)))
		}
	}
	if sc.backupTrouble != "" {
		c.False(v1alpha1.ConditionBackupCurrent, v1alpha1.ReasonFailed, sc.backupTrouble)
		return nil
	}
	var last time.Time
	if t := sc.status.Database.LastBackupTime; t != nil {
		last = t.Time
	}
	since := last
	if was := c.Get(v1alpha1.ConditionBackupCurrent); last.IsZero() && was != nil && was.Reason == v1alpha1.ReasonPending {
		since = was.LastTransitionTime.Time
	}
	v := judgeBackup(state, asked, last, since, sc.now.Time, b)
	if v.again > 0 && (asked || v.reason == v1alpha1.ReasonCurrent) {
		sc.again(v.again)
	}
	switch v.reason {
	case v1alpha1.ReasonCurrent:
		c.True(v1alpha1.ConditionBackupCurrent, v.reason, v.message)
	case v1alpha1.ReasonPending:
		c.Unknown(v1alpha1.ConditionBackupCurrent, v.reason, v.message)
	default:
		c.False(v1alpha1.ConditionBackupCurrent, v.reason, v.message)
	}
	return nil
}

// backupState is what the first server that makes backups says of them; asked: one runs.
func (r *Reconciler) backupState(ctx context.Context, pods []corev1.Pod) (state *names.BackupState, asked bool) {
	for i := range pods {
		if p := &pods[i]; stays(p) {
			asked = true
			if got, err := r.servers.readiness.Ready(ctx, p.Status.PodIP); err == nil && got.Backup != nil {
				return got.Backup, true
			}
		}
	}
	return nil, asked
}

type backupVerdict struct {
	reason, message string
	again           time.Duration // when to ask again
}

// judgeBackup says whether the newest backup is as new as it should be. state is nil when no server said anything; last is
// zero when none was made; since is when it was, or when the first one began to be waited for.
func judgeBackup(state *names.BackupState, asked bool, last, since, now time.Time, b *render.Backup) backupVerdict {
	const logs = "kubectl logs of the server says why"
	newest := "no backup was made yet"
	if !last.IsZero() {
		newest = "the newest backup is of " + last.UTC().Format(time.RFC3339)
	}
	every := fmt.Sprintf("one is made every %s", b.Interval)
	late := now.Sub(since) > b.Interval+max(b.Interval/4, backupSlack) && !since.IsZero()
	switch {
	case state != nil && state.Failed == names.BackupNoSpace:
		remedy := "make the claim larger (spec.database.sqlite.backup.claim.size), or lower spec.database.sqlite.backup.retention"
		if b.ClaimName == "" {
			remedy = "make the claim larger (spec.database.sqlite.size), or lower spec.database.sqlite.backup.retention"
		}
		return backupVerdict{v1alpha1.ReasonFailed, "there is no room for another backup; " + newest + ": " + remedy, backupAgain}
	case state != nil && state.Failed != "":
		return backupVerdict{v1alpha1.ReasonFailed, "the newest try failed; " + newest + ": " + logs, backupAgain}
	case late && !asked:
		return backupVerdict{v1alpha1.ReasonOverdue, newest + ", and " + every + " while a server runs: none does", backupAgain}
	case late && state == nil:
		return backupVerdict{v1alpha1.ReasonOverdue, newest + ", and " + every +
			"; the server does not answer the operator: check that a network policy lets it reach port " + fmt.Sprint(names.PortDebug), backupAgain}
	case late:
		return backupVerdict{v1alpha1.ReasonOverdue, newest + ", and " + every + ": " + logs, backupAgain}
	case last.IsZero():
		return backupVerdict{v1alpha1.ReasonPending, "the first backup is made when the server has started", connectingAgain}
	}
	return backupVerdict{v1alpha1.ReasonCurrent, fmt.Sprintf("%s; %s, and %d are kept", newest, every, b.Retention),
		max(last.Add(b.Interval).Sub(now)+backupTakes, backupAgain)}
}
