package accounts_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/controllers/internal/accounts"
)

var (
	one   = types.NamespacedName{Namespace: "a", Name: "registry"}
	other = types.NamespacedName{Namespace: "b", Name: "registry"}
)

// patched is the account with a patch of this package's applied.
func patched(t *testing.T, account *corev1.ServiceAccount, p client.Patch) *corev1.ServiceAccount {
	t.Helper()
	require.NotNil(t, p)
	raw, err := p.Data(account)
	require.NoError(t, err)
	var change struct {
		Metadata         struct{ Annotations map[string]*string }
		ImagePullSecrets []corev1.LocalObjectReference
	}
	require.NoError(t, json.Unmarshal(raw, &change))
	out := account.DeepCopy()
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	for k, v := range change.Metadata.Annotations {
		if delete(out.Annotations, k); v != nil {
			out.Annotations[k] = *v
		}
	}
	out.ImagePullSecrets = change.ImagePullSecrets
	return out
}

func names(a *corev1.ServiceAccount) []string {
	out := []string{}
	for _, r := range a.ImagePullSecrets {
		out = append(out, r.Name)
	}
	return out
}

func nothing(string) bool { return false }

func TestEntriesOfOthersStayAsTheyAre(t *testing.T) {
	mine := &corev1.ServiceAccount{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "mine"}}}
	a := patched(t, mine, accounts.Put(mine, "first", one))
	a = patched(t, a, accounts.Put(a, "second", other))
	require.Equal(t, []string{"mine", "first", "second"}, names(a))
	require.Equal(t, map[string]string{"first": "a/registry", "second": "b/registry"}, accounts.Entries(a))
	require.Nil(t, accounts.Put(a, "first", one), "it is there")
	require.Nil(t, accounts.Take(a, one, func(string) bool { return true }))

	a = patched(t, a, accounts.Take(a, one, nothing))
	require.Equal(t, []string{"mine", "second"}, names(a))
	require.Nil(t, accounts.Take(a, one, nothing))
	a = patched(t, a, accounts.Take(a, other, nothing))
	require.Equal(t, []string{"mine"}, names(a))
	require.Empty(t, a.Annotations, "no trace is left")
}

func TestWhatTheUserHadListedIsNotTakenOut(t *testing.T) {
	a := &corev1.ServiceAccount{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}}
	require.Nil(t, accounts.Put(a, "pull", one))
	require.Nil(t, accounts.Take(a, one, nothing))
}

func TestWhatTheUserTookOutIsPutBackOnce(t *testing.T) {
	a := &corev1.ServiceAccount{}
	a = patched(t, a, accounts.Put(a, "pull", one))
	a.ImagePullSecrets = nil
	a = patched(t, a, accounts.Put(a, "pull", one))
	require.Equal(t, []string{"pull"}, names(a))
	a = patched(t, a, accounts.Take(a, one, nothing))
	require.Empty(t, names(a))
}
