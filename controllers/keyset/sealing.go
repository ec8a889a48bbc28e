package keyset

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
)

const sealingBytes = 32

// GenerateSealing makes the content of the sealing key's file: base64 of 32 random bytes.
func GenerateSealing(random io.Reader) ([]byte, error) {
	raw := make([]byte, sealingBytes)
	if _, err := io.ReadFull(random, raw); err != nil {
		return nil, fmt.Errorf("making a sealing key: %w", err)
	}
	return base64.StdEncoding.AppendEncode(nil, raw), nil
}

// CheckSealing says whether file is what [GenerateSealing] makes. Errors never quote it.
func CheckSealing(file []byte) error {
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(file)))
	if err != nil || len(raw) != sealingBytes {
		return fmt.Errorf("want base64 of %d bytes", sealingBytes)
	}
	return nil
}
