// Package trust reads the certificates that a HoldLink trusts. Both controllers use it: one to call the hold, the other to
// tell the server.
package trust

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/usersecret"
	"atcr.io/operator/controllers/render"
)

// Max is how much PEM one HoldLink may bring: the runtime file has room for 1 MiB, and one for every HoldLink of an AppView
// ([links.Max]) fits in it.
const Max = 6 << 10

// Invalid says why there are no certificates that can be used, and what helps.
type Invalid struct{ message string }

func (i Invalid) Error() string { return i.message }

// Bundle is the certificates that link names, in PEM and nothing but them; empty when it names none. again is when to
// read them again; zero: a watch tells. The error is [Invalid], or one of the API server.
func Bundle(ctx context.Context, secrets *usersecret.Reader, link *v1alpha1.HoldLink) (bundle string, again time.Duration, err error) {
	ref := link.Spec.Trust.CABundleSecretRef
	if ref == nil {
		return "", 0, nil
	}
	key := client.ObjectKey{Namespace: link.Namespace, Name: string(ref.Name)}
	s, again, err := secrets.Get(ctx, key)
	switch {
	case apierrors.IsNotFound(err):
		return "", again, Invalid{fmt.Sprintf("spec.trust.caBundleSecretRef names Secret %s, which does not exist: create it", ref.Name)}
	case err != nil:
		return "", 0, fmt.Errorf("reading Secret %s: %w", key, err)
	}
	bundle, err = certificates(s.Data[render.CAEntry(ref)])
	if err != nil {
		return "", secrets.Unfit(key), Invalid{fmt.Sprintf("Secret %s, entry %s: %v", ref.Name, render.CAEntry(ref), err)}
	}
	return bundle, again, nil
}

// certificates of raw, written again: what else is in a Secret must not reach a ConfigMap.
func certificates(raw []byte) (string, error) {
	var out bytes.Buffer
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Errorf("a certificate in it cannot be read: put whole certificates in PEM there")
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", err
		}
	}
	switch {
	case out.Len() == 0:
		return "", fmt.Errorf("holds no certificate in PEM: add the certificates of the hold's authority, or name another entry in spec.trust.caBundleSecretRef.key")
	case out.Len() > Max:
		return "", fmt.Errorf("holds more than %d KiB of certificates: leave only those of the hold's authority", Max>>10)
	}
	return out.String(), nil
}
