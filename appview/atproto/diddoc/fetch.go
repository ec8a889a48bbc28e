package diddoc

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// WellKnown is where a did:web document lives.
const WellKnown = "/.well-known/did.json"

// FetchWebDocument fetches the DID document of did and checks that it is that DID's. With endpoint
// (scheme://host[:port]) the document is fetched there instead of at the host that the DID names, which also works
// for other methods than did:web; it must still name did.
//
// Without endpoint, https is tried first and http after it, or the other way round for local hosts; client's policy
// decides at dial time whether plain HTTP may be used at all, and no packet leaves when it may not.
func FetchWebDocument(ctx context.Context, client *http.Client, did, endpoint string) (*Document, error) {
	if endpoint != "" {
		base, err := CleanEndpoint(endpoint)
		if err != nil {
			return nil, err
		}
		return fetchFrom(ctx, client, base, did)
	}
	w, err := ParseWebDID(did)
	if err != nil {
		return nil, &Error{class: ClassInvalidDocument, msg: "resolving a DID", err: err}
	}
	schemes := []string{"https://", "http://"}
	if w.Local() {
		schemes = []string{"http://", "https://"}
	}
	doc, first := fetchFrom(ctx, client, schemes[0]+w.HostPort(), did)
	if first == nil || !mayTryOtherScheme(first) || ctx.Err() != nil {
		return doc, first
	}
	doc, second := fetchFrom(ctx, client, schemes[1]+w.HostPort(), did)
	if second == nil {
		return doc, nil
	}
	// Report the attempt that says more: a refused scheme hides why the permitted one failed.
	if Class(first) == ClassBlockedAddress && Class(second) != ClassBlockedAddress {
		return nil, second
	}
	return nil, first
}

// mayTryOtherScheme: nobody spoke the first scheme there, or it was not allowed. An answer, even a wrong one, is final.
func mayTryOtherScheme(err error) bool {
	switch Class(err) {
	case ClassFetchFailed, ClassTLSError, ClassBlockedAddress:
		return true
	}
	return false
}

func fetchFrom(ctx context.Context, client *http.Client, base, did string) (*Document, error) {
	url := base + WellKnown
	doing := "fetching " + url
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, &Error{class: ClassInvalidDocument, msg: doing, err: err}
	}
	req.Header.Set("Accept", "application/did+ld+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, classify(doing, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{class: ClassBadStatus, msg: fmt.Sprintf("%s: status %d", doing, resp.StatusCode)}
	}
	b, err := ReadBody(resp.Body, MaxBody)
	if err != nil {
		return nil, classify(doing, err)
	}
	doc, err := Parse(b)
	if err != nil {
		return nil, classify(doing, err)
	}
	if Canonical(doc.ID) != Canonical(did) {
		return nil, &Error{class: ClassDIDMismatch, msg: fmt.Sprintf("%s: the document is of another DID than %.100s", doing, strings.ToValidUTF8(did, "?"))}
	}
	return doc, nil
}
