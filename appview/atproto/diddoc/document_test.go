package diddoc

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const holdDoc = `{"@context":["https://www.w3.org/ns/did/v1"],"id":"did:web:hold.example.com",
 "verificationMethod":[{"id":"did:web:hold.example.com#atproto","type":"Multikey","controller":"did:web:hold.example.com","publicKeyMultibase":"zQ3sh"}],
 "service":[{"id":"#other","type":"X","serviceEndpoint":{"uri":"https://x"}},
  {"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example.com"},
  {"id":"did:web:hold.example.com#atcr_hold","type":"AtcrHoldService","serviceEndpoint":"https://Hold.example.com/"}]}`

func TestAHoldIsWhereItsHoldServiceSaysElseItsPDS(t *testing.T) {
	d, err := Parse([]byte(holdDoc))
	require.NoError(t, err)
	e, err := HoldEndpoint(d)
	require.NoError(t, err)
	require.Equal(t, "https://hold.example.com", e)

	d.Service = d.Service[:2]
	e, err = HoldEndpoint(d)
	require.NoError(t, err)
	require.Equal(t, "https://pds.example.com", e)

	d.Service = d.Service[:1]
	_, err = HoldEndpoint(d)
	require.Equal(t, ClassInvalidDocument, Class(err))

	typ, key, ok := SigningKey(d)
	require.True(t, ok)
	require.Equal(t, "Multikey", typ)
	require.Equal(t, "zQ3sh", key)
}

func TestEndpointsAreBareOrigins(t *testing.T) {
	for _, bad := range []string{"", "ftp://h", "https://", "https://u:p@h", "https://h/x", "https://h?token=1", "https://h#f", "//h", "h:80", "https://h:x"} {
		_, err := CleanEndpoint(bad)
		require.Equal(t, ClassInvalidDocument, Class(err), bad)
		require.NotContains(t, err.Error(), "token=1")
	}
	e, err := CleanEndpoint("http://LOCALHOST:8080/")
	require.NoError(t, err)
	require.Equal(t, "http://localhost:8080", e)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(holdDoc))
	f.Add([]byte(`{"id":"did:x:y","service":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			require.Equal(t, ClassInvalidDocument, Class(err))
			return
		}
		if e, err := HoldEndpoint(d); err == nil {
			again, err := CleanEndpoint(e)
			require.NoError(t, err)
			require.Equal(t, e, again)
		}
	})
}
