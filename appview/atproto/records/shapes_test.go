package records

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/atproto/lexicons"
)

// shape is a file of testdata: a record as somebody wrote it, and what it reads as; nothing when it is refused.
type shape struct {
	About  string
	Newest bool // valid by our lexicon, which is the newest published one
	Record json.RawMessage
	Reads  json.RawMessage
}

func shapes(t *testing.T, kind string) map[string]shape {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", kind, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	out := map[string]shape{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		require.NoError(t, err)
		var s shape
		require.NoError(t, json.Unmarshal(b, &s), p)
		out[strings.TrimSuffix(filepath.Base(p), ".json")] = s
	}
	return out
}

// checkShapes reads every file of a kind, and writes what was read again. read tells what a record says, in the words of
// the files.
func checkShapes(t *testing.T, kind string, read func(raw []byte) (says map[string]any, record any, err error)) {
	t.Helper()
	for name, s := range shapes(t, kind) {
		t.Run(name, func(t *testing.T) {
			_, err := lexicons.Validate(s.Record)
			require.Equal(t, s.Newest, err == nil, "valid by the lexicon: %v", err)
			says, record, err := read(s.Record)
			require.Equal(t, string(s.Reads) == "null", err != nil, "%s %v", s.About, err)
			require.Equal(t, err != nil, strings.HasPrefix(name, "refused-"))
			if err != nil {
				return
			}
			got, err := json.Marshal(says)
			require.NoError(t, err)
			require.JSONEq(t, string(s.Reads), string(got), s.About)
			if record == nil {
				return // of a kind that is never written
			}
			again, err := json.Marshal(record)
			require.NoError(t, err)
			if s.Newest {
				_, err = lexicons.Validate(again)
				require.NoError(t, err)
				requireKept(t, s.Record, again)
			}
		})
	}
}

// requireKept checks that a record written again says all that it said, word for word, but for pointers that are
// deprecated or spelled otherwise: what these read as is in the files.
func requireKept(t *testing.T, before, after []byte) {
	t.Helper()
	var was, is map[string]any
	require.NoError(t, json.Unmarshal(before, &was))
	require.NoError(t, json.Unmarshal(after, &is))
	for field, v := range was {
		switch field {
		case "holdDid", "holdEndpoint", "manifestDigest":
			continue
		}
		require.Equal(t, v, is[field], field)
	}
}

func TestEveryShapeOfAManifestIsReadOrRefused(t *testing.T) {
	checkShapes(t, "manifest", func(raw []byte) (map[string]any, any, error) {
		m, err := ParseManifest(raw)
		if err != nil {
			return nil, nil, err
		}
		return map[string]any{"digest": m.Digest, "repository": m.Repository, "hold": m.HoldDID, "layers": len(m.Layers),
			"manifests": len(m.Manifests), "blob": m.ManifestBlob != nil, "created": m.CreatedAt.Format(time.DateOnly)}, m, nil
	})
}

func TestEveryShapeOfATagIsReadOrRefused(t *testing.T) {
	checkShapes(t, "tag", func(raw []byte) (map[string]any, any, error) {
		tag, err := ParseTag(alice, raw)
		if err != nil {
			return nil, nil, err
		}
		return map[string]any{"digest": tag.Digest, "updated": tag.UpdatedAt.Format(time.DateOnly), "created": tag.CreatedAt.Format(time.DateOnly)}, tag, nil
	})
}

func TestEveryShapeOfAProfileIsReadOrRefused(t *testing.T) {
	checkShapes(t, "profile", func(raw []byte) (map[string]any, any, error) {
		p, err := ParseProfile(raw)
		if err != nil {
			return nil, nil, err
		}
		return map[string]any{"hold": p.DefaultHold, "optedOut": p.OptedOut}, p, nil
	})
}

func TestEveryShapeOfALegacyHoldIsReadOrRefused(t *testing.T) {
	checkShapes(t, "hold", func(raw []byte) (map[string]any, any, error) {
		hold, err := ParseLegacyHold(alice, raw)
		return map[string]any{"hold": hold}, nil, err
	})
}
