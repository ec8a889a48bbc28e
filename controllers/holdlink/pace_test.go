package holdlink

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/api/v1alpha1"
)

func TestACheckEndsBeforeTheNextOneBegins(t *testing.T) {
	for _, c := range []struct {
		check             v1alpha1.HealthCheck
		interval, timeout time.Duration
	}{
		{v1alpha1.HealthCheck{}, time.Minute, 5 * time.Second},
		{v1alpha1.HealthCheck{Interval: "30s", Timeout: "30s"}, 30 * time.Second, 30 * time.Second},
		{v1alpha1.HealthCheck{Interval: "10s", Timeout: "15s"}, 10 * time.Second, 10 * time.Second}, // older than the rule against it
	} {
		interval, timeout := pace(c.check)
		require.Equal(t, c.interval, interval, c.check)
		require.Equal(t, c.timeout, timeout, c.check)
	}
}
