package auth

import (
	"testing"
	"time"
)

// Every request of a client with a token pays BenchmarkVerifyAgain; a new token costs one of the others once.
func BenchmarkVerifyAgain(b *testing.B) { benchmarkVerify(b, true) }
func BenchmarkVerifyFirst(b *testing.B) { benchmarkVerify(b, false) }

func benchmarkVerify(b *testing.B, again bool) {
	k, token := benchmarkKeys(b)
	v := NewVerifier(k, testService, time.Now)
	for b.Loop() {
		if !again {
			v.verified.Purge()
		}
		if _, err := v.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	k, _ := benchmarkKeys(b)
	i := &Issuer{Keys: k, Service: testService, Life: time.Hour, Now: time.Now}
	for b.Loop() {
		if _, _, err := i.Issue(Subject{DID: "did:plc:a"}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkKeys(b *testing.B) (*Keys, string) {
	b.Helper()
	key, err := generate("ecdsa")
	if err != nil {
		b.Fatal(err)
	}
	set, err := NewKeySet(key, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	k := &Keys{log: discard}
	k.current.Store(set)
	token, _, err := (&Issuer{Keys: k, Service: testService, Life: time.Hour, Now: time.Now}).Issue(Subject{DID: "did:plc:a"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	return k, token
}
