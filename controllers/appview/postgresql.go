package appview

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/render"
)

// connectingAgain is how soon servers that are not ready are asked again what they wait for. Once they are, nobody asks.
const connectingAgain = 15 * time.Second

// postgres looks at the Secrets that the server is to be given. While they cannot be used, what runs goes on with what
// it has. The operator never connects to the database: servers say whether they do.
func (r *Reconciler) postgres(ctx context.Context, sc *scope) error {
	p := sc.appView.Spec.Database.PostgreSQL
	data, err := r.databaseSecret(ctx, sc, string(p.SecretRef.Name), "spec.database.postgresql.secretRef")
	if err != nil || data == nil {
		return err
	}
	unfit := func(name, reason, format string, args ...any) error {
		sc.again(r.userSecrets.Unfit(sc.key(name)))
		sc.databaseFailed(reason, format, args...)
		return nil
	}
	entries := render.DatabaseEntries(p.SecretRef.Keys)
	uri, err := names.DatabaseConnection(func(file string) []byte { return data[entries[file]] })
	switch {
	case uri == "" && err != nil:
		return unfit(string(p.SecretRef.Name), v1alpha1.ReasonCredentialsNotFound,
			"Secret %s does not say where the database is: %v; add the entry, or name another in spec.database.postgresql.secretRef.keys", p.SecretRef.Name, err)
	case err != nil:
		return unfit(string(p.SecretRef.Name), v1alpha1.ReasonCredentialsInvalid, "Secret %s, entry %s: %v", p.SecretRef.Name, entries[names.FileDatabaseURI], err)
	}
	if ca := p.CASecretRef; ca != nil {
		data, err := r.databaseSecret(ctx, sc, string(ca.Name), "spec.database.postgresql.caSecretRef")
		if err != nil || data == nil {
			return err
		}
		switch certificates := data[render.CAEntry(ca)]; {
		case len(certificates) == 0:
			return unfit(string(ca.Name), v1alpha1.ReasonCredentialsNotFound,
				"Secret %s has no entry %s: add it, or name another in spec.database.postgresql.caSecretRef.key", ca.Name, render.CAEntry(ca))
		case !hasCertificate(certificates):
			return unfit(string(ca.Name), v1alpha1.ReasonCredentialsInvalid, "Secret %s, entry %s holds no certificate in PEM", ca.Name, render.CAEntry(ca))
		}
	}
	sc.status.Database = v1alpha1.DatabaseStatus{Type: v1alpha1.DatabasePostgreSQL}
	sc.databasePlace = names.DatabasePlace(uri)
	sc.settings.DatabaseFiles = usedFiles(data, entries)
	if sc.consumed != "" {
		// User and password are read by the next connection; a connection to another place must not stay open.
		sc.consumed = render.ConsumedHash(append(slices.Clone(sc.startFiles), []byte(sc.databasePlace))...)
	}
	return nil
}

// databaseSecret reads one that the spec names; nil: it is not there, which is explained.
func (r *Reconciler) databaseSecret(ctx context.Context, sc *scope, name, at string) (map[string][]byte, error) {
	s, again, err := r.userSecrets.Get(ctx, sc.key(name))
	switch {
	case apierrors.IsNotFound(err):
		sc.again(again)
		sc.databaseFailed(v1alpha1.ReasonCredentialsNotFound, "%s names Secret %s, which does not exist: create it", at, name)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	sc.again(again)
	if s.Data == nil {
		return map[string][]byte{}, nil
	}
	return s.Data, nil
}

// databaseFailed says what is wrong with what the user provides: the server cannot be started with it.
func (sc *scope) databaseFailed(reason, format string, args ...any) {
	sc.stalled, sc.consumed, sc.databaseUnfit = true, "", true
	sc.conditions.False(v1alpha1.ConditionDatabaseReady, reason, fmt.Sprintf(format, args...))
}

// usedFiles are those that the server is given: the URI alone where there is one.
func usedFiles(data map[string][]byte, entries map[string]string) []string {
	if len(data[entries[names.FileDatabaseURI]]) > 0 {
		return []string{names.FileDatabaseURI}
	}
	var out []string
	for _, file := range slices.Sorted(maps.Keys(entries)) {
		if _, there := data[entries[file]]; there {
			out = append(out, file)
		}
	}
	return out
}

func hasCertificate(b []byte) bool {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			_, err := x509.ParseCertificate(block.Bytes)
			return err == nil
		}
	}
	return false
}

// reportPostgres says what the servers say of their database. Every ready one has reached it; of the others those that
// answer are asked.
func (r *Reconciler) reportPostgres(ctx context.Context, sc *scope, d *appsv1.Deployment, pods []corev1.Pod) error {
	if sc.databaseUnfit {
		return nil
	}
	secret := sc.appView.Spec.Database.PostgreSQL.SecretRef.Name
	left, err := r.leftClaim(ctx, sc)
	if err != nil {
		return err
	}
	waiting := 0
	for _, p := range pods {
		if !stays(&p) || ready(&p) {
			continue
		}
		waiting++
		if got, err := r.servers.readiness.Ready(ctx, p.Status.PodIP); err == nil && got.Status == names.StatusNoDatabase {
			sc.again(connectingAgain)
			sc.conditions.False(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonConnectionFailed, fmt.Sprintf(
				"the database that Secret %s names does not answer the server in pod %s: check that it runs, and that the network lets the pod reach it", secret, p.Name))
			return nil
		}
	}
	switch {
	case d != nil && d.Status.ReadyReplicas > 0 && !sc.otherDatabase:
		sc.conditions.True(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonConnected, fmt.Sprintf("the servers reach the database that Secret %s names%s", secret, left))
	case sc.settings.Replicas == 0:
		sc.conditions.True(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonScaledToZero, fmt.Sprintf("spec.replicas is 0: nobody uses the database that Secret %s names%s", secret, left))
	default:
		if waiting > 0 {
			sc.again(connectingAgain)
		}
		sc.conditions.False(v1alpha1.ConditionDatabaseReady, v1alpha1.ReasonConnecting, fmt.Sprintf("no server has reached the database that Secret %s names yet%s", secret, left))
	}
	return nil
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// lastWord is what the newest server that ended left behind, when it is not ready again; see [names.Termination].
func lastWord(c corev1.ContainerStatus) (names.Termination, bool) {
	if c.Ready {
		return names.Termination{}, false
	}
	for _, t := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
		if t != nil {
			return names.ParseTermination(t.Message)
		}
	}
	return names.Termination{}, false
}

// explain puts a last word into a sentence with a remedy, and names the reason of DatabaseReady if it is about that.
func explain(t names.Termination) (sentence, reason string) {
	switch t.Reason {
	case names.EndedSchemaTooNew:
		return fmt.Sprintf("a newer release wrote its database: schema %d, and this release knows %d; run the newer release again, or restore a backup that this one made",
			t.Have, t.Known), v1alpha1.ReasonSchemaTooNew
	case names.EndedDatabaseUnavailable:
		return "its database does not answer: check that it runs, and that the network lets the pod reach it", v1alpha1.ReasonConnectionFailed
	case names.EndedDatabaseRefused:
		return "the database refuses user, password or its own name: check the Secret that spec.database names", v1alpha1.ReasonConnectionFailed
	case names.EndedDatabaseFull:
		return "the disk of its database is full, and it cannot start without room: make the claim larger (spec.database.sqlite.size)", v1alpha1.ReasonStorageFull
	case names.EndedDatabaseLocked:
		return "another server has the SQLite file open", ""
	case names.EndedConfigInvalid:
		return "it does not understand its configuration: check that spec.image is of the operator's release", ""
	}
	return "", ""
}

// reportLastWords sets DatabaseReady by what servers that do not stay up left behind.
func (sc *scope) reportLastWords(pods []corev1.Pod) {
	if sc.databaseUnfit {
		return
	}
	for _, p := range pods {
		if !p.DeletionTimestamp.IsZero() {
			continue
		}
		for _, c := range p.Status.ContainerStatuses {
			word, ok := lastWord(c)
			if !ok {
				continue
			}
			if sentence, reason := explain(word); reason != "" {
				if reason == v1alpha1.ReasonStorageFull {
					sc.stalled, sentence = true, sc.noRoom()
				}
				sc.conditions.False(v1alpha1.ConditionDatabaseReady, reason, fmt.Sprintf("the server in pod %s does not start: %s", p.Name, sentence))
				return
			}
		}
	}
}
