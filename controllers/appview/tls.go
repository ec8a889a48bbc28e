package appview

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/render"
)

// certificateReport is what condition Exposed will say of the server's certificate.
type certificateReport struct {
	leaf            *x509.Certificate // nil: none can be used
	authorities     []byte            // PEM: who issued it, if the Secret says so
	unfit           bool              // a server cannot be started with it
	failed          bool              // the condition is false
	reason, message string            // empty: the spec asks for none
}

// certificates looks at the certificate that the server is to speak HTTPS with, and asks cert-manager for it if the spec
// says so. fit is false when no server can be started with it: what runs goes on with what it has.
func (r *Reconciler) certificates(ctx context.Context, sc *scope) (fit bool, err error) {
	want, name := sc.appView.Spec.Exposure.TLS, render.ServerCertificateName(sc.appView.Name)
	if want == nil || want.CertManager == nil {
		err := r.withdrawNamed(ctx, sc, optional.Certificate.Kind, name, r.optional(optional.Certificate), optional.Certificate.New())
		if err != nil || want == nil {
			return true, err
		}
	}
	// The Service has addresses that the certificate may be for. Nothing is behind it before it is made.
	if !sc.owned(sc.service) {
		if err := r.applyService(ctx, sc); err != nil {
			return false, err
		}
	}
	awaited := ""
	if want.CertManager != nil {
		if awaited, err = r.serverCertificate(ctx, sc); err != nil {
			return false, err
		}
	}
	if err := r.readCertificate(ctx, sc, awaited); err != nil {
		return false, err
	}
	if c := sc.certificate; c.failed {
		sc.conditions.False(v1alpha1.ConditionExposed, c.reason, c.message)
	}
	if sc.certificate.unfit {
		sc.consumed = ""
	}
	return !sc.certificate.unfit, nil
}

// certificateUnknown says that nobody could look at the certificate now: what was said of it stays.
func (sc *scope) certificateUnknown() bool {
	return sc.settings.TLSSecret != "" && sc.certificate.reason == ""
}

// serverCertificate asks cert-manager. awaited says why there may be no certificate yet.
func (r *Reconciler) serverCertificate(ctx context.Context, sc *scope) (awaited string, err error) {
	live, err := r.applyOptional(ctx, sc, optional.Certificate, render.ServerCertificate(sc.appView, sc.settings, sc.service))
	if reason, message := certificateRefused(err, "spec.exposure.tls names certManager", "name a Secret in spec.exposure.tls.secretRef"); reason != "" {
		sc.again(refusedRetry)
		sc.certificateFailed(false, reason, "%s", message)
		return message, nil
	} else if err != nil {
		return "", err
	}
	return fmt.Sprintf("cert-manager has not issued Certificate %s yet%s", live.GetName(), why(live)), nil
}

// certificateFailed says what is wrong; the first word counts.
func (sc *scope) certificateFailed(unfit bool, reason, format string, args ...any) {
	c := &sc.certificate
	c.unfit = c.unfit || unfit
	if !c.failed {
		c.failed, c.reason, c.message = true, reason, fmt.Sprintf(format, args...)
		sc.stalled = sc.stalled || reason != v1alpha1.ReasonCertificateNotReady
	}
}

// readCertificate reads the Secret as servers do.
func (r *Reconciler) readCertificate(ctx context.Context, sc *scope, awaited string) error {
	name := sc.settings.TLSSecret
	s, again, err := r.userSecrets.Get(ctx, sc.key(name))
	switch {
	case apierrors.IsNotFound(err) && awaited != "":
		sc.again(again)
		sc.expires(name, time.Time{})
		sc.certificateFailed(true, v1alpha1.ReasonCertificateNotReady, "%s", awaited)
		return nil
	case apierrors.IsNotFound(err):
		sc.again(again)
		sc.expires(name, time.Time{})
		sc.certificateFailed(true, v1alpha1.ReasonSecretNotFound, "spec.exposure.tls.secretRef names Secret %s, which does not exist: create it", name)
		return nil
	case err != nil:
		return fmt.Errorf("reading Secret %s: %w", name, err)
	}
	if awaited != "" {
		if err := r.adopt(ctx, sc.appView, s.DeepCopy(), "Secret"); err != nil {
			return err
		}
	}
	leaf, reason, what := readPair(s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey])
	if leaf == nil {
		sc.again(r.userSecrets.Unfit(sc.key(name)))
		sc.expires(name, time.Time{})
		sc.certificateFailed(true, reason, "Secret %s: %s", name, what)
		return nil
	}
	sc.again(again)
	sc.certificate.leaf, sc.certificate.authorities = leaf, s.Data[corev1.ServiceAccountRootCAKey]
	sc.expires(name, leaf.NotAfter)
	sc.judge(name)
	if sc.certificate.reason == v1alpha1.ReasonExpired {
		sc.again(r.userSecrets.Unfit(sc.key(name)))
	}
	return nil
}

// judge says how a certificate that can be used is. A server goes on with one that has ended: that clients refuse it is
// for them to say, and another may come at any moment.
func (sc *scope) judge(secret string) {
	leaf, now := sc.certificate.leaf, sc.now.Time
	end := leaf.NotAfter.UTC().Format(time.RFC3339)
	for _, t := range []time.Time{soon(leaf), leaf.NotAfter} {
		if wait := t.Sub(now); wait >= 0 {
			sc.again(wait + time.Second)
		}
	}
	if now.After(leaf.NotAfter) {
		sc.certificateFailed(false, v1alpha1.ReasonExpired, "the certificate in Secret %s ended at %s: renew it; the server goes on with it", secret, end)
	}
	// With something in front, the name that clients use may be on a certificate there.
	if sc.ownName() && leaf.VerifyHostname(hostname(sc.settings.BaseURL)) != nil {
		sc.certificateFailed(false, v1alpha1.ReasonNameMismatch,
			"the certificate in Secret %s is not for %s: renew it with that name, or set spec.baseURL to one that it has", secret, hostname(sc.settings.BaseURL))
	}
	if sc.certificate.failed {
		return
	}
	sc.certificate.reason = v1alpha1.ReasonAccepted
	sc.certificate.message = fmt.Sprintf("the server speaks HTTPS with the certificate in Secret %s, until %s", secret, end)
	if !now.Before(soon(leaf)) {
		sc.certificate.reason = v1alpha1.ReasonExpiringSoon
		sc.certificate.message = fmt.Sprintf("the certificate in Secret %s, with which the server speaks HTTPS, ends at %s: renew it", secret, end)
	}
}

// ownName says whether clients reach the server by the Service's name, with nothing in between.
func (sc *scope) ownName() bool {
	return sc.appView.Spec.BaseURL == "" && len(render.ExposedHosts(sc.appView)) == 0
}

func hostname(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// readPair parses a certificate and its key. leaf is nil when a server could not start with them; what says why, and
// quotes neither.
func readPair(certPEM, keyPEM []byte) (leaf *x509.Certificate, reason, what string) {
	switch {
	case len(certPEM) == 0:
		return nil, v1alpha1.ReasonSecretNotFound, "there is no entry tls.crt: add the certificate, with those between it and its root after it, in PEM"
	case len(keyPEM) == 0:
		return nil, v1alpha1.ReasonSecretNotFound, "there is no entry tls.key: add the certificate's private key, in PEM"
	case !hasCertificate(certPEM):
		return nil, v1alpha1.ReasonCertificateInvalid, "tls.crt holds no certificate in PEM: put one there"
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	switch {
	case err == nil:
		return pair.Leaf, "", ""
	case hasPrivateKey(keyPEM):
		return nil, v1alpha1.ReasonKeyMismatch, "the certificate in tls.crt is of another key than tls.key: put the pair that belongs together"
	}
	return nil, v1alpha1.ReasonCertificateInvalid, "tls.key holds no private key in PEM that can be read, without a password: put one there"
}

func hasPrivateKey(b []byte) bool {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		for _, parse := range []func([]byte) error{
			func(der []byte) error { _, err := x509.ParsePKCS8PrivateKey(der); return err },
			func(der []byte) error { _, err := x509.ParsePKCS1PrivateKey(der); return err },
			func(der []byte) error { _, err := x509.ParseECPrivateKey(der); return err },
		} {
			if parse(block.Bytes) == nil {
				return true
			}
		}
	}
	return false
}
