package hold

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/config/names"
)

func TestTheConfigurationIsTheTableOfNames(t *testing.T) {
	tags := map[string]string{}
	for f := range reflect.TypeFor[Config]().Fields() {
		tags[f.Tag.Get("env")] = f.Tag.Get("envDefault")
	}
	table := map[string]string{}
	for _, v := range names.HoldVariables {
		table[v.Name] = v.Default
	}
	require.Equal(t, table, tags)
}

func valid() map[string]string {
	return map[string]string{
		"HOLD_PUBLIC_URL": "https://hold.example.com", "HOLD_OWNER": "did:plc:abc",
		"STORAGE_DRIVER": "filesystem", "STORAGE_ROOT_DIR": "/blobs",
	}
}

func TestAnInvalidConfigurationNamesTheVariableAndTheRemedy(t *testing.T) {
	_, err := LoadFrom(valid())
	require.NoError(t, err)
	for _, tt := range []struct{ name, value, want string }{
		{"HOLD_PUBLIC_URL", "", "required"},
		{"HOLD_PUBLIC_URL", "hold.example.com", "want http"},
		{"HOLD_PUBLIC_URL", "https://hold.example.com/path", "without a path"},
		{"HOLD_PUBLIC_URL", "https://user@hold.example.com", "user information"},
		{"HOLD_PUBLIC_URL", "https://hold_x.example.com", "did:web"},
		{"HOLD_OWNER", "", "required"},
		{"HOLD_OWNER", "alice.test", "not a DID"},
		{"HOLD_PLC_URL", "plc", "want http"},
		{"HOLD_DID_METHOD", "key", "web or plc"},
		{"HOLD_DID", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "HOLD_DID_METHOD=plc"},
		{"HOLD_ALLOWED_PRIVATE_CIDRS", "10.0.0.0", "HOLD_ALLOWED_PRIVATE_CIDRS: "},
		{"HOLD_ALLOWED_PRIVATE_PORTS", "70000", "not a port"},
		{"HOLD_LOG_LEVEL", "loud", "HOLD_LOG_LEVEL: "},
		{"HOLD_LOG_FORMATTER", "xml", "text or json"},
		{"HOLD_UPLOAD_TTL", "1s", "at least 1m"},
		{"HOLD_PUBLIC", "maybe", "HOLD_PUBLIC: want true or false"},
		{"HOLD_SHUTDOWN_GRACE", "25", "HOLD_SHUTDOWN_GRACE: want a duration"},
		{"HOLD_MAX_UPLOADS", "0", "at least 1"},
		{"HOLD_STATS_INTERVAL", "0s", "more than nothing"},
		{"HOLD_QUOTA_TIERS", "small=much", "want a size"},
		{"HOLD_QUOTA_TIERS", "small=0", "want a size"},
		{"HOLD_QUOTA_TIERS", "=2GB", "a name of its own"},
		{"HOLD_QUOTA_TIERS", "small=1GB,small=2GB", "a name of its own"},
		{"HOLD_NEW_CREW_TIER", "small", "none of the tiers in HOLD_QUOTA_TIERS"},
		{"HOLD_PLANKOWNER_CREW_TIER", "small", "HOLD_PLANKOWNER_CREW_TIER"},
		{"HOLD_GC_INTERVAL", "1s", "at least 1m"},
		{"HOLD_GC_GRACE", "24h", "at least 192h"},
		{"STORAGE_DRIVER", "tape", "s3 or filesystem"},
		{"STORAGE_DRIVER", "s3", "S3_BUCKET: required"},
		{"STORAGE_ROOT_DIR", "", "required"},
	} {
		vars := valid()
		vars[tt.name] = tt.value
		_, err := LoadFrom(vars)
		require.ErrorContains(t, err, tt.want, "%s=%s", tt.name, tt.value)
	}
}

func TestListsAreSeparatedByCommas(t *testing.T) {
	vars := valid()
	maps.Copy(vars, map[string]string{"HOLD_ALLOWED_PRIVATE_CIDRS": "10.0.0.0/8,fd00::/8", "HOLD_ALLOWED_PRIVATE_PORTS": "2583,8080"})
	c, err := LoadFrom(vars)
	require.NoError(t, err)
	require.Len(t, c.AllowedPrivateCIDRs, 2)
	require.Equal(t, []int{2583, 8080}, c.AllowedPrivatePorts)
}

func TestThePublicURLMakesTheDID(t *testing.T) {
	for raw, want := range map[string]string{
		"https://hold.example.com":      "did:web:hold.example.com",
		"https://Hold.Example.com:443/": "did:web:hold.example.com",
		"http://hold.example.com:80":    "did:web:hold.example.com",
		"https://hold.example.com:80":   "did:web:hold.example.com%3A80",
		"http://localhost:8080":         "did:web:localhost%3A8080",
		"http://172.28.0.3:8080":        "did:web:172.28.0.3%3A8080",
	} {
		u, err := publicURL(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, didOf(u).String(), raw)
	}
}

func TestCrewKeysAreValidAndDistinct(t *testing.T) {
	a, b := crewKey("did:web:localhost%3A8080"), crewKey("did:web:localhost.3A8080")
	require.NotEqual(t, a, b)
	require.False(t, strings.Contains(a.String(), "%"))
}
