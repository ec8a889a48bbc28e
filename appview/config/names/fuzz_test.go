package names

import (
	"encoding/json"
	"testing"
)

func FuzzParseRuntime(f *testing.F) {
	for _, s := range []string{`{"version":1}`, `{"version":1,"holds":[{"did":"did:web:h%3A80","endpoint":"http://10.0.0.1","download":"Proxy"}]}`,
		`{"version":2}`, `{"version":1,"new":1}`, `{"version":1,"holds":[{"did":"x"}]}`, `{"version":1} {}`, `{"version":1,"version":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRuntime(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRuntime(out); err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		var rest any
		if json.Unmarshal(b, &rest) != nil {
			t.Fatalf("%q was taken, but is more than one JSON value", b)
		}
	})
}
