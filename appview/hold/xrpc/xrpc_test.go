package xrpc

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnErrorOfOursShowsNoDetail(t *testing.T) {
	w := httptest.NewRecorder()
	WriteError(w, errors.New("open /secret/path"))
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Contains(t, w.Body.String(), `"error":"InternalServerError"`)
	require.NotContains(t, w.Body.String(), "secret")
}

func TestAnXRPCErrorShowsItsSentenceAndKeepsItsCause(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("wrapped: %w", Errorf(http.StatusUnauthorized, "AuthRequired", "Log in as %s.", "alice").Because(cause))
	require.ErrorIs(t, err, cause)
	w := httptest.NewRecorder()
	WriteError(w, err)
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.JSONEq(t, `{"error":"AuthRequired","message":"Log in as alice."}`, w.Body.String())
	require.NotEmpty(t, w.Header().Get("WWW-Authenticate"))
}

func TestBodiesThatAreNotTheMethodsInput(t *testing.T) {
	for name, tt := range map[string]struct {
		contentType, body string
		status            int
	}{
		"not JSON":     {"application/json", "{", 400},
		"another type": {"text/plain", "{}", 415},
		"too large":    {"application/json", `"` + strings.Repeat("x", MaxJSON) + `"`, 413},
		"wrong shape":  {"application/json; charset=utf-8", "[]", 400},
		"good":         {"application/json; charset=utf-8", `{"a":"b","unknown":1}`, 0},
		"without type": {"", `{"a":"b"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.contentType)
			var in struct{ A string }
			err := ReadJSON(httptest.NewRecorder(), r, &in)
			if tt.status == 0 {
				require.NoError(t, err)
				require.Equal(t, "b", in.A)
				return
			}
			require.Equal(t, tt.status, AsError(err).Status)
		})
	}
}
