package lexicons

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/lexicon"
	"github.com/stretchr/testify/require"
)

func TestEveryFileIsALexiconNamedForItsID(t *testing.T) {
	_, err := Catalog()
	require.NoError(t, err)
	entries, err := files.ReadDir(".")
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, e := range entries {
		b, err := files.ReadFile(e.Name())
		require.NoError(t, err)
		var f lexicon.SchemaFile
		require.NoError(t, json.Unmarshal(b, &f), e.Name())
		require.Equal(t, e.Name(), f.ID+".json")
		require.NotNil(t, f.Description, "%s says what it is for", e.Name())
	}
}

// A name that our files give a meaning of their own is said to be ours.
func TestDeviationsAreDocumented(t *testing.T) {
	for file, words := range map[string][]string{
		"io.atcr.manifest.json":            {"key type is any", "256", "repositories, trimmed, artifactType"},
		"io.atcr.tag.json":                 {"256"},
		"io.atcr.hold.layer.json":          {"256"},
		"io.atcr.hold.notifyManifest.json": {"256", "count"},
		"io.atcr.hold.deleteBlob.json":     {"Ours, not published elsewhere"},
		"io.atcr.hold.initiateUpload.json": {"partSize, streaming"},
	} {
		b, err := files.ReadFile(file)
		require.NoError(t, err)
		var f lexicon.SchemaFile
		require.NoError(t, json.Unmarshal(b, &f))
		for _, w := range words {
			require.Contains(t, *f.Description, w, file)
		}
	}
}

func TestThePermissionSetNamesTheRecordsOfUsers(t *testing.T) {
	c, err := Catalog()
	require.NoError(t, err)
	s, err := c.Resolve("io.atcr.authFullApp")
	require.NoError(t, err)
	set := s.Def.(lexicon.SchemaPermissionSet)
	require.Len(t, set.Permissions, 1, "no rpc permission; blob permissions are not allowed in a set")
	entries, err := files.ReadDir(".")
	require.NoError(t, err)
	var ofUsers []string
	for _, e := range entries {
		id := strings.TrimSuffix(e.Name(), ".json")
		s, err := c.Resolve(id)
		require.NoError(t, err)
		if _, ok := s.Def.(lexicon.SchemaRecord); ok && !strings.HasPrefix(id, "io.atcr.hold.") {
			ofUsers = append(ofUsers, id)
		}
	}
	slices.Sort(set.Permissions[0].Collection)
	require.Equal(t, ofUsers, set.Permissions[0].Collection)
}

func TestAValidatorKnowsGoodFromBad(t *testing.T) {
	id, err := Validate([]byte(`{"$type":"io.atcr.tag","repository":"a","tag":"b"}`))
	require.NoError(t, err)
	require.Equal(t, "io.atcr.tag", id)
	for name, bad := range map[string]string{
		"a field is missing": `{"$type":"io.atcr.tag","repository":"a"}`,
		"a wrong type":       `{"$type":"io.atcr.tag","repository":"a","tag":1}`,
		"too long":           `{"$type":"io.atcr.tag","repository":"a","tag":"` + strings.Repeat("x", 129) + `"}`,
		"no type":            `{"repository":"a","tag":"b"}`,
		"an unknown type":    `{"$type":"io.atcr.nothing"}`,
		"a method":           `{"$type":"io.atcr.hold.getQuota"}`,
		"a float":            `{"$type":"io.atcr.tag","repository":"a","tag":"b","x":1.5}`,
		"not JSON":           `{`,
	} {
		_, err := Validate([]byte(bad))
		require.Error(t, err, name)
	}
}
