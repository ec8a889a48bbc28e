package apply

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func version(uid, resourceVersion string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: resourceVersion}}
}

func TestWhatIsRememberedIsOneVersionOfAnObjectForOneIntent(t *testing.T) {
	m := newMemory()
	require.False(t, m.has(version("a", "1"), "x"))
	m.add(version("a", "1"), "x")
	m.add(version("b", "1"), "y")
	require.True(t, m.has(version("a", "1"), "x"))
	require.False(t, m.has(version("a", "1"), "y"), "another intent")
	require.False(t, m.has(version("a", "2"), "x"), "somebody has changed it")
	m.add(version("a", "2"), "x")
	require.True(t, m.has(version("a", "2"), "x"))
	require.False(t, m.has(version("a", "1"), "x"), "the newest counts")
	require.True(t, m.has(version("b", "1"), "y"))
}

func TestMemoryHasAnEnd(t *testing.T) {
	m := newMemory()
	for i := range uint64(maxMemory) {
		m.found[i] = i
	}
	m.add(version("a", "1"), "x")
	require.Len(t, m.found, 1)
	require.True(t, m.has(version("a", "1"), "x"))
}
