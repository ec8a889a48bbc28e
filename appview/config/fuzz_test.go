package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/names"
)

// A runtime file is taken whole or not at all.
func FuzzMergedRuntime(f *testing.F) {
	for _, s := range []string{`{"version":1,"defaultHoldDID":"did:web:h.example.com","holds":[{"did":"did:web:H.example.com","endpoint":"http://10.0.0.1:8080/"}]}`,
		`{"version":1,"allowedHosts":["A:5000"," b ",""],"allowedPrivateCIDRs":["10.0.0.1/8","::/0"],"allowedPrivatePorts":[1,65535]}`,
		`{"version":1,"allowedPrivatePorts":[0]}`, `{"version":1,"holds":[{"did":"did:plc:x","endpoint":"file:///etc/passwd"}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := names.ParseRuntime(b)
		if err != nil {
			return
		}
		s, err := merge(&Config{}, file, "hash")
		if err != nil {
			return
		}
		for did, h := range s.Holds {
			require.Equal(t, diddoc.Canonical(did), did)
			if h.Endpoint != "" {
				clean, err := diddoc.CleanEndpoint(h.Endpoint)
				require.NoError(t, err)
				require.Equal(t, clean, h.Endpoint)
			}
			require.Contains(t, []names.Download{names.Redirect, names.Proxy}, h.Download)
		}
		for _, h := range s.AllowedHosts {
			require.True(t, h != "" && h == strings.ToLower(strings.TrimSpace(h)), "%q", h)
		}
		for _, p := range s.AllowedPrivatePorts {
			require.True(t, p > 0 && p < 65536)
		}
	})
}
