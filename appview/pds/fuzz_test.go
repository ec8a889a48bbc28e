package pds_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

// Whatever bytes are given as a CAR file: they are refused, or they are a repository that is stored and exported whole.
func FuzzRepoCAR(f *testing.F) {
	from := newRepo(f)
	f.Add(exported(f, from))
	for i := range 20 {
		put(f, from, fmt.Sprint("k", i), fmt.Sprint(i%5))
	}
	whole := exported(f, from)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte{})
	to := newRepo(f)
	key, err := to.SigningKey(f.Context(), alice)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, raw []byte) {
		in, err := pds.ReadRepoCAR(t.Context(), bytes.NewReader(raw))
		if err != nil {
			require.ErrorIs(t, err, pds.ErrInvalidRecord)
			return
		}
		if in.Commit.DID != string(alice) {
			return
		}
		_, err = to.ImportRepo(t.Context(), pds.NewRepo{DID: alice, Key: key}, in)
		require.NoError(t, err)
		stored := verifiedExport(t, to, alice)
		n := 0
		for r := range in.Records() {
			n++
			require.Equal(t, r.CID, stored[string(r.Collection)+"/"+string(r.RKey)])
		}
		require.Len(t, stored, n)
	})
}
