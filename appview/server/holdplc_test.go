package server_test

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/server/servertest"
)

// The AppView finds a hold with a did:plc by the PLC directory: its DID does not say where it is.
func TestPushAndPullWithAHoldThatHasADidPLC(t *testing.T) {
	w := servertest.Start(t, servertest.Options{HoldEnv: map[string]string{names.HoldDIDMethod: "plc"}})
	require.Equal(t, "plc", w.HoldDID().Method())
	img, err := random.Image(10_000, 3)
	require.NoError(t, err)
	ref := w.Host() + "/bob.test/app:latest"
	require.NoError(t, crane.Push(img, ref, crane.WithAuth(w.Auth(servertest.Bob))))
	got, err := crane.Pull(ref)
	require.NoError(t, err)
	require.NoError(t, validate.Image(got))
}
