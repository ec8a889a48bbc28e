package holdlink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"atcr.io/operator/appview/atproto/diddoc"
)

// document reads a DID document: a did:web at its host, a did:plc from the directory.
func (*Resolver) document(ctx context.Context, c clients, did, plc string) (*diddoc.Document, error) {
	if !strings.HasPrefix(did, "did:plc:") {
		return diddoc.FetchWebDocument(ctx, c.public, did, "")
	}
	// The directory is configured by whoever writes the AppView, like an endpoint.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, plc+"/"+did, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the PLC directory: %w", err)
	}
	resp, err := c.trusted.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the PLC directory: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("asking the PLC directory: the answer is not 200")
	}
	body, err := diddoc.ReadBody(resp.Body, diddoc.MaxBody)
	if err != nil {
		return nil, err
	}
	doc, err := diddoc.Parse(body)
	if err != nil {
		return nil, err
	}
	if doc.ID != did {
		return nil, mismatch{did}
	}
	return doc, nil
}

// mismatch is a document of another DID.
type mismatch struct{ did string }

func (m mismatch) Error() string {
	return "the PLC directory's document is of another DID than " + m.did
}

// Class implements what [diddoc.Class] looks for.
func (mismatch) Class() string { return diddoc.ClassDIDMismatch }
