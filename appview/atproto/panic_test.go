package atproto_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto"
)

type brokenSessions struct{}

func (brokenSessions) Do(context.Context, syntax.DID, *http.Request) (*http.Response, error) {
	panic("index out of range")
}

func TestABugWhileAServiceTokenIsAskedForIsAnErrorForThoseWhoWaitForIt(t *testing.T) {
	p := atproto.NewPDS(nil, http.DefaultClient, brokenSessions{})
	_, err := p.ServiceToken(t.Context(), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:web:hold.example.com")
	require.ErrorContains(t, err, "panic")
}
