package v1alpha1

import (
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	appViewName = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
	localHost   = regexp.MustCompile(`^(localhost|127[.][0-9.]+|[^.:]+|[^:]+[.](local|localhost|internal|test)|[^:]+[.]svc([.][^:]+)?)$`)
	ownPath     = regexp.MustCompile(`^/(etc|var|var/lib|(etc/atcr|var/lib/atcr|var/lib/atcr-backup|tmp|dev|proc|sys)(/.*)?)$`)
	didPattern  = regexp.MustCompile(`^did:(plc:[a-z2-7]{24}|web:[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?((:|%3A)[0-9]{1,5})?)$`)
)

// ValidateAppView checks what the CRD's rules check, and what they cannot express. The API server has done the first
// part for every object written since the rule exists; older objects are found here.
func ValidateAppView(a *AppView) field.ErrorList {
	var errs field.ErrorList
	if !appViewName.MatchString(a.Name) || len(a.Name) > 52 {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), a.Name,
			"names the Service too: at most 52 lower-case letters, digits and hyphens, a letter first"))
	}
	s, at := &a.Spec, field.NewPath("spec")
	errs = append(errs, validateWords(reflect.ValueOf(s), at)...)
	errs = append(errs, serviceName.validate(s.ServiceName, at.Child("serviceName"))...)
	errs = append(errs, validateBaseURL(s, at.Child("baseURL"))...)
	errs = append(errs, validateReplicas(s, at)...)
	if d := s.DefaultHold; d != nil && (d.HoldLinkRef == nil) == (d.DID == "") {
		errs = append(errs, field.Invalid(at.Child("defaultHold"), "", "set exactly one of holdLinkRef and did"))
	}
	errs = append(errs, validateAllowedNamespaces(&s.HoldLinks.AllowedNamespaces, at.Child("holdLinks", "allowedNamespaces"))...)
	errs = append(errs, validateKeys(&s.Keys, at.Child("keys"))...)
	errs = append(errs, validateDuration(s.Tokens.Expiration, time.Minute, time.Hour, at.Child("tokens", "expiration"))...)
	if d, err := time.ParseDuration(string(s.Tokens.Expiration)); err == nil && d != d.Truncate(time.Second) {
		errs = append(errs, field.Invalid(at.Child("tokens", "expiration"), s.Tokens.Expiration, "must be whole seconds"))
	}
	errs = append(errs, validateSQLite(&s.Database.SQLite, s.Database.Type, at.Child("database", "sqlite"))...)
	errs = append(errs, validatePostgreSQL(&s.Database, at.Child("database", "postgresql"))...)
	if svc := s.Exposure.Service; svc.NodePort != 0 && svc.Type != "NodePort" && svc.Type != "LoadBalancer" {
		errs = append(errs, field.Invalid(at.Child("exposure", "service", "nodePort"), svc.NodePort, "needs type NodePort or LoadBalancer"))
	}
	errs = append(errs, validateAnnotations(s.Exposure.Service.Annotations, at.Child("exposure", "service", "annotations"))...)
	errs = append(errs, validateExposure(&s.Exposure, at.Child("exposure"))...)
	errs = append(errs, validateTLS(s, at)...)
	errs = append(errs, validateClusterPull(s, at.Child("clusterPull"))...)
	for i, c := range s.Network.AllowedPrivateCIDRs {
		if _, err := netip.ParsePrefix(string(c)); err != nil {
			errs = append(errs, field.Invalid(at.Child("network", "allowedPrivateCIDRs").Index(i), c, "must be a range of addresses such as 10.0.0.0/8"))
		}
	}
	errs = append(errs, validateOrigin(s.Identity.PLCURL, at.Child("identity", "plcURL"))...)
	errs = append(errs, validateOrigin(s.Identity.HandleResolverURL, at.Child("identity", "handleResolverURL"))...)
	errs = append(errs, metav1validation.ValidateLabels(s.Monitoring.Labels, at.Child("monitoring", "labels"))...)
	errs = append(errs, validateOwnKeys(s.Monitoring.Labels, at.Child("monitoring", "labels"))...)
	errs = append(errs, validatePodTemplate(&s.PodTemplate, at.Child("podTemplate"))...)
	errs = append(errs, validateMetadata(&s.InheritedMetadata, at.Child("inheritedMetadata"))...)
	return errs
}

func validateBaseURL(s *AppViewSpec, at *field.Path) field.ErrorList {
	if s.BaseURL == "" {
		return nil
	}
	if errs := validateOrigin(s.BaseURL, at); len(errs) > 0 {
		return errs
	}
	u, _ := url.Parse(string(s.BaseURL)) // validateOrigin has parsed it
	if u.Scheme == "http" && s.Insecure != InsecureAllowed && !localHost.MatchString(u.Hostname()) {
		return field.ErrorList{field.Invalid(at, s.BaseURL,
			"must be https for a public host: use https, or set insecure: Allowed if passwords may cross the network in clear")}
	}
	return nil
}

func validateExposure(e *Exposure, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e.Ingress != nil && e.Gateway != nil {
		errs = append(errs, field.Invalid(at, "", "set at most one of ingress and gateway"))
	}
	if i := e.Ingress; i != nil {
		errs = append(errs, validateHostnames(i.Hosts, at.Child("ingress", "hosts"))...)
		errs = append(errs, validateAnnotations(i.Annotations, at.Child("ingress", "annotations"))...)
	}
	if g := e.Gateway; g != nil {
		errs = append(errs, validateHostnames(g.Hostnames, at.Child("gateway", "hostnames"))...)
		if len(g.ParentRefs) == 0 {
			errs = append(errs, field.Required(at.Child("gateway", "parentRefs"), "name a Gateway"))
		}
	}
	return errs
}

func validateTLS(s *AppViewSpec, at *field.Path) field.ErrorList {
	t, p := s.Exposure.TLS, at.Child("exposure", "tls")
	if t == nil {
		return nil
	}
	var errs field.ErrorList
	if (t.SecretRef == nil) == (t.CertManager == nil) {
		errs = append(errs, field.Invalid(p, "", "set exactly one of secretRef and certManager"))
	}
	if c := t.CertManager; c != nil {
		errs = append(errs, validateDuration(c.Duration, time.Hour, tenYears, p.Child("certManager", "duration"))...)
		if len(c.DNSNames) > 0 {
			errs = append(errs, validateHostnames(c.DNSNames, p.Child("certManager", "dnsNames"))...)
		}
	}
	if strings.HasPrefix(string(s.BaseURL), "http://") {
		errs = append(errs, field.Invalid(at.Child("baseURL"), s.BaseURL, "must be https with exposure.tls: the server speaks HTTPS only"))
	}
	return errs
}

// maxRegistry is how long a registry's name may be: it is part of a ConfigMap's key.
const maxRegistry = 200

func validateClusterPull(s *AppViewSpec, at *field.Path) field.ErrorList {
	p := s.ClusterPull
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	if t := s.Exposure.Service.Type; p.Endpoint == PullNodePort && t != "NodePort" && t != "LoadBalancer" {
		errs = append(errs, field.Invalid(at.Child("endpoint"), p.Endpoint, "needs exposure.service.type NodePort or LoadBalancer"))
	}
	for i, r := range p.Registries {
		if _, port, _ := strings.Cut(string(r), ":"); !portFits(port) {
			errs = append(errs, field.Invalid(at.Child("registries").Index(i), r, "must have a port that exists, or none"))
		}
	}
	if c := p.PullSecrets; c != nil && c.NamespaceSelector != nil {
		if _, err := metav1.LabelSelectorAsSelector(c.NamespaceSelector); err != nil {
			errs = append(errs, field.Invalid(at.Child("pullSecrets", "namespaceSelector"), "", err.Error()))
		}
	}
	if len(p.Registries) == 0 {
		_, base, _ := strings.Cut(string(s.BaseURL), "://")
		names := []string{base}
		if i := s.Exposure.Ingress; i != nil {
			for _, h := range i.Hosts {
				names = append(names, string(h))
			}
		}
		if g := s.Exposure.Gateway; g != nil {
			for _, h := range g.Hostnames {
				names = append(names, string(h))
			}
		}
		for _, n := range names {
			if len(n) > maxRegistry || strings.HasPrefix(n, "[") {
				errs = append(errs, field.Invalid(at.Child("registries"), n,
					"container runtimes can be told names and IPv4 addresses of 200 characters at most: list in registries those that image references use"))
			}
		}
	}
	return errs
}

func validateHostnames(hosts []Hostname, at *field.Path) field.ErrorList {
	if len(hosts) == 0 {
		return field.ErrorList{field.Required(at, "name a host")}
	}
	var errs field.ErrorList
	for i, h := range hosts {
		for _, msg := range content.IsDNS1123Subdomain(string(h)) {
			errs = append(errs, field.Invalid(at.Index(i), h, msg))
		}
	}
	return errs
}

func validateOrigin(o Origin, at *field.Path) field.ErrorList {
	if o == "" {
		return nil
	}
	u, err := url.Parse(string(o))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		u.Path != "" || u.RawQuery != "" || u.Fragment != "" || !portFits(u.Port()) {
		return field.ErrorList{field.Invalid(at, o, "must be http(s)://host[:port], without path or query")}
	}
	return nil
}

// portFits says whether a port is none or one that exists.
func portFits(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && port != "0"
}

func validateDuration(d Duration, low, high time.Duration, at *field.Path) field.ErrorList {
	if d == "" {
		return nil
	}
	v, err := time.ParseDuration(string(d))
	if err != nil || v < low || v > high {
		return field.ErrorList{field.Invalid(at, d, fmt.Sprintf("must be a duration between %s and %s", short(low), short(high)))}
	}
	return nil
}

// short is d without zero units: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func validateAllowedNamespaces(n *AllowedNamespaces, at *field.Path) field.ErrorList {
	if (n.From == FromSelector) != (n.Selector != nil) {
		return field.ErrorList{field.Invalid(at.Child("selector"), "", "is needed with from: Selector, and only then")}
	}
	if n.Selector == nil {
		return nil
	}
	if _, err := metav1.LabelSelectorAsSelector(n.Selector); err != nil {
		return field.ErrorList{field.Invalid(at.Child("selector"), "", err.Error())}
	}
	return nil
}

const (
	oneDay   = 24 * time.Hour
	tenYears = 87600 * time.Hour
)

func validateKeys(k *Keys, at *field.Path) field.ErrorList {
	s, p := &k.Signing, at.Child("signing")
	errs := validateUnion(s.Source == KeySecretRef, s.SecretRef != nil, p.Child("secretRef"), "is needed with source: SecretRef, and only then")
	errs = append(errs, validateUnion(s.Source == KeyCertManager, s.CertManager != nil, p.Child("certManager"), "is needed with source: CertManager, and only then")...)
	if c := s.CertManager; c != nil {
		errs = append(errs, validateDuration(c.Duration, oneDay, tenYears, p.Child("certManager", "duration"))...)
	}
	errs = append(errs, validateDuration(s.Rotation.Interval, oneDay, tenYears, p.Child("rotation", "interval"))...)
	if r := s.Rotation; r.Interval != "" && (r.Mode == RotationManual || s.Source == KeySecretRef || s.Source == KeyCertManager) {
		errs = append(errs, field.Invalid(p.Child("rotation", "interval"), r.Interval, "is for generated keys in mode Scheduled"))
	}
	o, p := &k.OAuthClient, at.Child("oauthClient")
	errs = append(errs, validateUnion(o.Source == KeySecretRef, o.SecretRef != nil, p.Child("secretRef"), "is needed with source: SecretRef, and only then")...)
	if o.Source == KeyCertManager {
		errs = append(errs, field.NotSupported(p.Child("source"), o.Source, []KeySource{KeyGenerated, KeySecretRef}))
	}
	errs = append(errs, validateDuration(o.Rotation.Interval, 30*oneDay, tenYears, p.Child("rotation", "interval"))...)
	errs = append(errs, validateDuration(o.Rotation.RetireAfter, time.Hour, tenYears, p.Child("rotation", "retireAfter"))...)
	if r := o.Rotation; r.Interval != "" && r.Mode != RotationScheduled {
		errs = append(errs, field.Invalid(p.Child("rotation", "interval"), r.Interval, "is for mode Scheduled"))
	}
	return errs
}

// validateUnion checks that the member of a union is there exactly when its discriminator says so.
func validateUnion(wanted, there bool, at *field.Path, says string) field.ErrorList {
	if wanted != there {
		return field.ErrorList{field.Invalid(at, "", says)}
	}
	return nil
}

func validateReplicas(s *AppViewSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	shared := s.Database.Type == DatabasePostgreSQL
	switch n := s.Replicas; {
	case n != nil && !shared && (*n < 0 || *n > 1):
		errs = append(errs, field.Invalid(at.Child("replicas"), *n,
			"must be 0 or 1 without a database that replicas share: several need database.type PostgreSQL"))
	case n != nil && (*n < 0 || *n > 50):
		errs = append(errs, field.Invalid(at.Child("replicas"), *n, "must be between 0 and 50"))
	}
	a, p := s.Autoscaling, at.Child("autoscaling")
	if a == nil {
		return errs
	}
	if !shared {
		errs = append(errs, field.Invalid(p, "", "needs database.type PostgreSQL, which replicas share"))
	}
	least := a.Min
	if least == 0 {
		least = DefaultAutoscalingMin
	}
	if least < 1 || a.Max < least || a.Max > 50 {
		errs = append(errs, field.Invalid(p.Child("max"), a.Max, "min, 2 unless you set it, must not be more than max, and max at most 50"))
	}
	r := s.PodTemplate.Resources
	if r.Requests.Cpu().IsZero() && r.Limits.Cpu().IsZero() {
		errs = append(errs, field.Invalid(p.Child("targetCPU"), a.TargetCPU, "needs podTemplate.resources.requests.cpu, which it is a part of"))
	}
	return errs
}

func validatePostgreSQL(d *Database, at *field.Path) field.ErrorList {
	p := d.PostgreSQL
	if errs := validateUnion(d.Type == DatabasePostgreSQL, p != nil, at, "is needed with type: PostgreSQL, and only then"); p == nil || len(errs) > 0 {
		return errs
	}
	var errs field.ErrorList
	if p.CASecretRef != nil && p.SSLMode != "" && p.SSLMode != "verify-ca" && p.SSLMode != SSLVerifyFull {
		errs = append(errs, field.Invalid(at.Child("sslMode"), p.SSLMode, "must be verify-ca or verify-full with caSecretRef: the other modes do not look at the certificate"))
	}
	errs = append(errs, validateRange(p.Pool.MaxOpen, 2, 1000, at.Child("pool", "maxOpen"))...)
	errs = append(errs, validateRange(p.Pool.MaxIdle, 1, 1000, at.Child("pool", "maxIdle"))...)
	if p.Pool.MaxOpen > 0 && p.Pool.MaxIdle > p.Pool.MaxOpen {
		errs = append(errs, field.Invalid(at.Child("pool", "maxIdle"), p.Pool.MaxIdle, "must not be more than maxOpen"))
	}
	return errs
}

func validateSQLite(s *SQLite, kind DatabaseType, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.ExistingClaim != "" && (s.Size != nil || s.StorageClassName != "" || s.AccessMode != "") {
		errs = append(errs, field.Invalid(at.Child("existingClaim"), s.ExistingClaim,
			"size, storageClassName and accessMode belong to the claim that the operator makes: leave them out with existingClaim"))
	}
	if s.Size != nil && s.Size.Sign() <= 0 {
		errs = append(errs, field.Invalid(at.Child("size"), s.Size.String(), "must be more than nothing"))
	}
	if s.Backup != nil && kind == DatabaseNone {
		errs = append(errs, field.Forbidden(at.Child("backup"), "must be left out with type: None, which keeps nothing that a backup could bring back"))
	}
	return append(errs, validateBackup(s.Backup, at.Child("backup"))...)
}

func validateBackup(b *Backup, at *field.Path) field.ErrorList {
	if b == nil {
		return nil
	}
	errs := validateDuration(b.Interval, time.Minute, 30*oneDay, at.Child("interval"))
	errs = append(errs, validateRange(b.Retention, 1, 1000, at.Child("retention"))...)
	c, p := b.Claim, at.Child("claim")
	if c != (BackupClaim{}) && b.Destination == BackupToDatabaseClaim {
		errs = append(errs, field.Invalid(p, "", "goes with destination Claim: DatabaseClaim is the claim of the database"))
	}
	if c.ExistingClaim != "" && (c.Size != nil || c.StorageClassName != "") {
		errs = append(errs, field.Invalid(p.Child("existingClaim"), c.ExistingClaim,
			"size and storageClassName belong to the claim that the operator makes: leave them out with existingClaim"))
	}
	if c.Size != nil && c.Size.Sign() <= 0 {
		errs = append(errs, field.Invalid(p.Child("size"), c.Size.String(), "must be more than nothing"))
	}
	return errs
}

func validatePodTemplate(t *PodTemplate, at *field.Path) field.ErrorList {
	errs := validateMetadata(&t.Metadata, at.Child("metadata"))
	errs = append(errs, metav1validation.ValidateLabels(t.NodeSelector, at.Child("nodeSelector"))...)
	for i, e := range t.Env {
		errs = append(errs, envName.validate(e.Name, at.Child("env").Index(i).Child("name"))...)
		if strings.HasPrefix(e.Name, "ATCR_") || e.Name == "TEST_MODE" {
			errs = append(errs, field.Invalid(at.Child("env").Index(i).Child("name"), e.Name,
				"variables of the server (ATCR_*, TEST_MODE) are set by the fields of the spec"))
		}
	}
	errs = append(errs, validateVolumes(t.Volumes, at.Child("volumes"))...)
	if len(t.Resources.Claims) > 0 {
		errs = append(errs, field.Forbidden(at.Child("resources", "claims"), "claims of devices are not taken: the server uses none"))
	}
	for name, limit := range t.Resources.Limits {
		if request, ok := t.Resources.Requests[name]; ok && request.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(at.Child("resources", "requests").Key(string(name)), request.String(), "is more than the limit"))
		}
	}
	return errs
}

func validateVolumes(volumes []Volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := map[string]bool{}
	for i, v := range volumes {
		p := at.Index(i)
		errs = append(errs, volumeName.validate(v.Name, p.Child("name"))...)
		errs = append(errs, mountPath.validate(v.MountPath, p.Child("mountPath"))...)
		switch {
		case (v.ConfigMap == nil) == (v.Secret == nil):
			errs = append(errs, field.Invalid(p, "", "set exactly one of configMap and secret"))
		case ownPath.MatchString(v.MountPath):
			errs = append(errs, field.Invalid(p.Child("mountPath"), v.MountPath, "is where the server or the system keeps its own files"))
		case seen[v.MountPath]:
			errs = append(errs, field.Duplicate(p.Child("mountPath"), v.MountPath))
		}
		seen[v.MountPath] = true
	}
	return errs
}

func validateMetadata(m *Metadata, at *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabels(m.Labels, at.Child("labels"))
	errs = append(errs, validateOwnKeys(m.Labels, at.Child("labels"))...)
	return append(errs, validateAnnotations(m.Annotations, at.Child("annotations"))...)
}

// validateOwnKeys refuses what the operator itself writes and reads: it would fight with itself over such a key.
func validateOwnKeys(m map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for k := range m {
		if strings.HasPrefix(k, keyPrefix) {
			errs = append(errs, field.Invalid(at, k, "keys under "+keyPrefix+" are the operator's"))
		}
	}
	return errs
}

func validateAnnotations(a map[string]string, at *field.Path) field.ErrorList {
	errs := validateOwnKeys(a, at)
	size := 0
	for k, v := range a {
		size += len(k) + len(v)
		for _, msg := range content.IsLabelKey(strings.ToLower(k)) {
			errs = append(errs, field.Invalid(at, k, msg))
		}
	}
	if size > 64<<10 {
		errs = append(errs, field.TooLong(at, "", 64<<10))
	}
	return errs
}
