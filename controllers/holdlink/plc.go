package holdlink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/atproto/diddoc"
)

// directory is where documents of a did:plc are. It is configured by whoever writes the AppView: what it may be at is the
// AppView's, and no certificate of a HoldLink counts for it.
type directory struct {
	url    string
	client *http.Client
}

func (r *Resolver) directory(av *v1alpha1.AppView) directory {
	at := cmp.Or(string(av.Spec.Identity.PLCURL), defaultPLC)
	return directory{at, r.clients(types.NamespacedName{}, access{namespace: av.Namespace}).trusted}
}

// document reads a DID document: a did:web at its host, a did:plc from the directory.
func (*Resolver) document(ctx context.Context, c clients, did string, plc directory) (*diddoc.Document, error) {
	if !strings.HasPrefix(did, "did:plc:") {
		return diddoc.FetchWebDocument(ctx, c.public, did, "")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, plc.url+"/"+did, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the PLC directory: %w", err)
	}
	resp, err := plc.client.Do(req)
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
