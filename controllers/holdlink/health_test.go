package holdlink_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

// Status waits for the first answer of a hold, but not for long.
func TestAHoldThatDoesNotAnswerYetIsAttachedAllTheSame(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	hold := e.NewHold()
	enough := make(chan struct{})
	e.Cleanup(func() { close(enough) })
	hold.Answer(func(http.ResponseWriter, *http.Request) { <-enough })
	e.Create(appView(), link("hold", hold, func(s *v1alpha1.HoldLinkSpec) {
		s.HealthCheck.Interval, s.HealthCheck.Timeout = "1m", "30s"
	}))
	l := e.HoldLink("hold", "Resolved=True", "Healthy=Unknown/Unknown")
	require.Equal(t, hold.DID, l.Status.DID)
	require.Nil(t, l.Status.Health.LastProbeTime, "status has waited until the first check ended")
	e.HoldLink("hold", "Healthy=Unknown/Unknown", "Ready=True")
	e.AppView("registry", "Ready=True", "HoldsHealthy=Unknown/Unknown")
}
