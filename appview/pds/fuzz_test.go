package pds_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"atcr.io/operator/appview/pds"
)

// Whatever JSON a client sends as a record: it is refused, or it is read back as it was written, and the repository stays
// verifiable.
func FuzzRecordJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"text":"x"}`, `{"n":1.5}`, `{"n":1e300}`, `{"n":9007199254740993}`, `{"$type":"test.example.note"}`, `{"$type":1}`, `[]`, `null`,
		`{"l":{"$link":"bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}}`, `{"l":{"$link":"x"}}`, `{"b":{"$bytes":"AQID"}}`,
		`{"b":{"$type":"blob","ref":{"$link":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"mimeType":"a/b","size":1}}`,
		`{"b":{"cid":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","mimeType":"a/b"}}`, `{"a":[[[[[[]]]]]]}`, `{"\u0000":"\ud800"}`, `{"":null}`,
	} {
		f.Add([]byte(seed))
	}
	e := newRepo(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		value, err := pds.ParseRecord(raw)
		if err != nil {
			require.ErrorIs(t, err, pds.ErrInvalidRecord)
			return
		}
		_, _, err = e.ApplyWrites(t.Context(), alice, []pds.Write{{Op: pds.Put, Collection: notes, RKey: "fuzz", Value: value}}, cid.Undef)
		if err != nil {
			require.True(t, errors.Is(err, pds.ErrInvalidRecord) || errors.Is(err, pds.ErrBlobNotFound), err)
			return
		}
		got, err := e.GetRecord(t.Context(), alice, notes, "fuzz")
		require.NoError(t, err)
		if _, typed := value["$type"]; !typed {
			value["$type"] = string(notes)
		}
		want, err := json.Marshal(value)
		require.NoError(t, err)
		have, err := json.Marshal(got.Value)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(have))
	})
}
