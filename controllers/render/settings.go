package render

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/keyset"
)

// Defaults are what the manager's flags say.
type Defaults struct {
	Image         string // of the server, for AppViews that name none
	ClusterDomain string // of the cluster's DNS, usually cluster.local

	// KeyPropagation is how long a changed Secret takes to reach every pod, ClockSkew how far two clocks may differ.
	KeyPropagation, ClockSkew time.Duration
}

// Settings are the spec with every default filled in.
type Settings struct {
	Image             string
	BaseURL           string
	ServiceName       string // issuer and service of tokens
	Replicas          int32
	Rotation          keyset.Policy // of the signing key
	OAuthRotation     keyset.OAuthPolicy
	TokenExpiration   time.Duration
	Database          v1alpha1.DatabaseType
	DatabaseFiles     []string // of the database's Secret that the server is given; found by reading it
	ClaimName         string
	OwnClaim          bool // the operator makes the claim
	ClaimSize         resource.Quantity
	AccessMode        corev1.PersistentVolumeAccessMode
	Backup            *Backup // nil: none are made
	LogLevel          string
	LogFormat         string
	ServiceType       corev1.ServiceType
	ServicePort       int32
	TLSSecret         string // with the server's certificate; empty: plain HTTP
	RetainData        bool
	RetainKeys        bool
	Development       bool
	AllowedNamespaces v1alpha1.FromNamespaces
	ServiceHosts      []string // the Service's names, longest first, without port
}

// Resolve fills in the defaults of av's spec.
func Resolve(av *v1alpha1.AppView, d Defaults) Settings {
	s := av.Spec
	out := Settings{
		Image:             cmp.Or(s.Image, d.Image),
		Replicas:          1,
		TokenExpiration:   Duration(s.Tokens.Expiration, 5*time.Minute),
		Database:          database(s.Database),
		ClaimName:         cmp.Or(string(s.Database.SQLite.ExistingClaim), ClaimName(av.Name)),
		OwnClaim:          s.Database.SQLite.ExistingClaim == "",
		ClaimSize:         resource.MustParse("1Gi"),
		AccessMode:        cmp.Or(s.Database.SQLite.AccessMode, corev1.ReadWriteOnce),
		LogLevel:          cmp.Or(s.Logging.Level, "info"),
		LogFormat:         cmp.Or(s.Logging.Format, "json"),
		ServiceType:       cmp.Or(s.Exposure.Service.Type, corev1.ServiceTypeClusterIP),
		ServicePort:       cmp.Or(s.Exposure.Service.Port, names.PortHTTP),
		RetainData:        s.DeletionPolicy.Data != v1alpha1.Delete,
		RetainKeys:        s.DeletionPolicy.Keys != v1alpha1.Delete,
		Development:       s.Development == v1alpha1.Enabled,
		AllowedNamespaces: cmp.Or(s.HoldLinks.AllowedNamespaces.From, v1alpha1.FromSame),
		ServiceHosts:      ServiceHosts(av.Name, av.Namespace, d.ClusterDomain),
	}
	if s.Replicas != nil {
		out.Replicas = *s.Replicas
	}
	if s.Database.SQLite.Size != nil {
		out.ClaimSize = *s.Database.SQLite.Size
	}
	out.TLSSecret = tlsSecret(av)
	out.Backup = backup(av, out)
	out.BaseURL = cmp.Or(string(s.BaseURL), exposedURL(av), out.ServiceURL())
	out.ServiceName = cmp.Or(s.ServiceName, hostOf(out.BaseURL))
	out.Rotation = rotation(s.Keys.Signing, out.TokenExpiration, d)
	out.OAuthRotation = oauthRotation(s.Keys.OAuthClient)
	return out
}

// database is the type; of a spec that asks for a PostgreSQL and names none it is the default.
func database(d v1alpha1.Database) v1alpha1.DatabaseType {
	if d.Type == v1alpha1.DatabaseNone || d.Type == v1alpha1.DatabasePostgreSQL && d.PostgreSQL != nil {
		return d.Type
	}
	return v1alpha1.DatabaseSQLite
}

// PostgreSQL says whether the server uses one, which replicas share.
func (s Settings) PostgreSQL() bool { return s.Database == v1alpha1.DatabasePostgreSQL }

// SQLite says whether the server's file is on a claim: it ends before the next one starts.
func (s Settings) SQLite() bool { return s.Database == v1alpha1.DatabaseSQLite }

// ServiceURL is the server's URL inside the cluster.
func (s Settings) ServiceURL() string {
	if s.TLSSecret != "" {
		return "https://" + hostPort(s.ServiceHosts[0], s.ServicePort, 443)
	}
	return "http://" + hostPort(s.ServiceHosts[0], s.ServicePort, 80)
}

const (
	day                = 24 * time.Hour
	signingInterval    = 90 * day
	oauthInterval      = 365 * day
	oauthRetireAfter   = 180 * day
	defaultPropagation = 2 * time.Minute
	defaultSkew        = time.Minute
)

func rotation(k v1alpha1.SigningKey, tokenLife time.Duration, d Defaults) keyset.Policy {
	p := keyset.Policy{
		Algorithm:   keyset.Algorithm(cmp.Or(k.Algorithm, v1alpha1.ES256)),
		TokenLife:   tokenLife,
		Propagation: cmp.Or(d.KeyPropagation, defaultPropagation),
		Skew:        cmp.Or(d.ClockSkew, defaultSkew),
	}
	if k.Rotation.Mode != v1alpha1.RotationManual {
		p.Interval = Duration(k.Rotation.Interval, signingInterval)
	}
	return p
}

func oauthRotation(k v1alpha1.OAuthClientKey) keyset.OAuthPolicy {
	p := keyset.OAuthPolicy{RetireAfter: Duration(k.Rotation.RetireAfter, oauthRetireAfter)}
	if k.Rotation.Mode == v1alpha1.RotationScheduled {
		p.Interval = Duration(k.Rotation.Interval, oauthInterval)
	}
	return p
}

// ServiceHosts are the names of a Service in the cluster's DNS, the longest first.
func ServiceHosts(name, namespace, domain string) []string {
	return []string{
		fmt.Sprintf("%s.%s.svc.%s", name, namespace, cmp.Or(domain, "cluster.local")),
		fmt.Sprintf("%s.%s.svc", name, namespace),
		name + "." + namespace,
		name,
	}
}

// Duration is d, or def when d is empty or no duration.
func Duration(d v1alpha1.Duration, def time.Duration) time.Duration {
	if v, err := time.ParseDuration(string(d)); err == nil {
		return v
	}
	return def
}

// maxVersion is how long a version status takes; no tag or digest is longer, but what is no image may be.
const maxVersion = 256

// Version is the tag or digest of an image reference.
func Version(image string) string {
	version := versionOf(image)
	return version[:min(len(version), maxVersion)]
}

func versionOf(image string) string {
	if _, digest, ok := strings.Cut(image, "@"); ok {
		return digest
	}
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		return image[i+1:]
	}
	return "latest"
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// hostPort is host:port, or host alone when port is the scheme's own.
func hostPort(host string, port, own int32) string {
	if port == own {
		return host
	}
	return fmt.Sprintf("%s:%d", host, port)
}
