package hold

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/caarlos0/env/v11"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/hold/storage/s3"
)

// Config is a hold's configuration: the variables of names.HoldVariables, where they are documented.
type Config struct {
	HTTPAddr            string         `env:"HOLD_HTTP_ADDR" envDefault:":8080"`
	PublicURL           string         `env:"HOLD_PUBLIC_URL"`
	Owner               string         `env:"HOLD_OWNER"`
	Successor           string         `env:"HOLD_SUCCESSOR"`
	Public              bool           `env:"HOLD_PUBLIC" envDefault:"false"`
	AllowAllCrew        bool           `env:"HOLD_ALLOW_ALL_CREW" envDefault:"false"`
	DatabaseDir         string         `env:"HOLD_DATABASE_DIR" envDefault:"/var/lib/atcr-hold"`
	KeyPath             string         `env:"HOLD_KEY_PATH"`
	DIDMethod           string         `env:"HOLD_DID_METHOD" envDefault:"web"`
	DID                 string         `env:"HOLD_DID"`
	RotationKeyPath     string         `env:"HOLD_ROTATION_KEY_PATH"`
	Relays              []string       `env:"HOLD_RELAYS"`
	PLCURL              string         `env:"HOLD_PLC_URL" envDefault:"https://plc.directory"`
	AllowedPrivateCIDRs []netip.Prefix `env:"HOLD_ALLOWED_PRIVATE_CIDRS"`
	AllowedPrivatePorts []int          `env:"HOLD_ALLOWED_PRIVATE_PORTS"`
	LogLevel            slog.Level     `env:"HOLD_LOG_LEVEL" envDefault:"info"`
	LogFormatter        string         `env:"HOLD_LOG_FORMATTER" envDefault:"text"`
	DebugAddr           string         `env:"HOLD_DEBUG_ADDR" envDefault:":8081"`
	ShutdownGrace       time.Duration  `env:"HOLD_SHUTDOWN_GRACE" envDefault:"25s"`
	UploadTTL           time.Duration  `env:"HOLD_UPLOAD_TTL" envDefault:"24h"`
	MaxUploads          int            `env:"HOLD_MAX_UPLOADS" envDefault:"64"`
	QuotaTiers          string         `env:"HOLD_QUOTA_TIERS"`
	NewCrewTier         string         `env:"HOLD_NEW_CREW_TIER"`
	PlankownerCrewTier  string         `env:"HOLD_PLANKOWNER_CREW_TIER"`
	GCEnabled           bool           `env:"HOLD_GC_ENABLED" envDefault:"false"`
	GCDryRun            bool           `env:"HOLD_GC_DRY_RUN" envDefault:"false"`
	GCInterval          time.Duration  `env:"HOLD_GC_INTERVAL" envDefault:"24h"`
	GCGrace             time.Duration  `env:"HOLD_GC_GRACE" envDefault:"240h"`
	AppViewDIDs         []string       `env:"HOLD_APPVIEW_DIDS"`
	StatsInterval       time.Duration  `env:"HOLD_STATS_INTERVAL" envDefault:"1m"`
	TestMode            bool           `env:"TEST_MODE" envDefault:"false"`
	StorageDriver       string         `env:"STORAGE_DRIVER" envDefault:"s3"`
	StorageRootDir      string         `env:"STORAGE_ROOT_DIR"`
	S3Bucket            string         `env:"S3_BUCKET"`
	S3Endpoint          string         `env:"S3_ENDPOINT"`
	AWSRegion           string         `env:"AWS_REGION" envDefault:"us-east-1"`
	AWSAccessKeyID      string         `env:"AWS_ACCESS_KEY_ID"`
	AWSSecretAccessKey  string         `env:"AWS_SECRET_ACCESS_KEY"`
	AWSSessionToken     string         `env:"AWS_SESSION_TOKEN"`
	S3Addressing        string         `env:"S3_ADDRESSING" envDefault:"auto"`
}

// Values of STORAGE_DRIVER.
const (
	driverS3         = "s3"
	driverFilesystem = "filesystem"
)

// Values of HOLD_DID_METHOD.
const (
	didMethodWeb = "web"
	didMethodPLC = "plc"
)

// noSuccessor as HOLD_SUCCESSOR takes a successor away again.
const noSuccessor = "none"

// Load reads the configuration from the environment and validates it.
func Load() (Config, error) { return LoadFrom(env.ToMap(os.Environ())) }

// LoadFrom reads the configuration from variables and validates it.
func LoadFrom(vars map[string]string) (Config, error) {
	var c Config
	if err := env.ParseWithOptions(&c, env.Options{Environment: vars}); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", unreadable(err))
	}
	return c, c.Validate()
}

// Warnings are for the log at start: variables that are set and do nothing, and what is not for production.
func (c Config) Warnings(vars map[string]string) []string {
	out := names.Unknown(vars, names.HoldVariables, "HOLD_", "STORAGE_", "S3_")
	if c.TestMode {
		out = append(out, names.TestMode+"=true: plain HTTP to loopback and single-label hosts is allowed; never in production")
	}
	return out
}

// unreadable names the variables that could not be read, and what they want, where the library names fields of Go.
func unreadable(err error) error {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return err
	}
	var out []error
	for _, err := range all.Errors {
		var bad env.ParseError
		if !errors.As(err, &bad) {
			out = append(out, err)
			continue
		}
		field, _ := reflect.TypeFor[Config]().FieldByName(bad.Name)
		out = append(out, fmt.Errorf("%s: want %s: %w", field.Tag.Get("env"), forms[bad.Type], bad.Err))
	}
	return errors.Join(out...)
}

// forms are how values are written.
var forms = map[reflect.Type]string{
	reflect.TypeFor[bool]():           "true or false",
	reflect.TypeFor[time.Duration]():  "a duration such as 30s, 15m or 1h",
	reflect.TypeFor[slog.Level]():     "debug, info, warn or error",
	reflect.TypeFor[[]netip.Prefix](): "comma-separated ranges such as 10.0.0.0/8",
	reflect.TypeFor[[]int]():          "comma-separated ports",
	reflect.TypeFor[[]string]():       "a comma-separated list",
	reflect.TypeFor[int]():            "a whole number",
}

// Validate reports everything that is wrong with a configuration at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(name, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
	}
	if _, err := publicURL(c.PublicURL); err != nil {
		bad(names.HoldPublicURL, "%v", err)
	}
	if c.Owner == "" {
		bad(names.HoldOwner, "required: the DID of the captain, e.g. did:plc:... (find yours by resolving your handle)")
	} else if _, err := syntax.ParseDID(c.Owner); err != nil {
		bad(names.HoldOwner, "%q is not a DID; a handle must be resolved to its DID first", c.Owner)
	}
	if _, err := syntax.ParseDID(c.Successor); err != nil && c.Successor != "" && c.Successor != noSuccessor {
		bad(names.HoldSuccessor, "%q is not the DID of a hold; write none for no successor", c.Successor)
	}
	if c.DatabaseDir == "" {
		bad(names.HoldDatabaseDir, "must not be empty")
	}
	if u, err := url.Parse(c.PLCURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		bad(names.HoldPLCURL, "want http(s)://host[:port]")
	}
	for _, relay := range c.Relays {
		if _, err := diddoc.CleanEndpoint(relay); err != nil {
			bad(names.HoldRelays, "want http(s)://host[:port], such as https://bsky.network: %v", err)
		}
	}
	switch c.DIDMethod {
	case didMethodWeb:
		if c.DID != "" {
			bad(names.HoldDID, "only with %s=%s: a did:web is made of %s", names.HoldDIDMethod, didMethodPLC, names.HoldPublicURL)
		}
	case didMethodPLC:
		if did, err := syntax.ParseDID(c.DID); c.DID != "" && (err != nil || did.Method() != didMethodPLC) {
			bad(names.HoldDID, "%q is not a did:plc; leave it empty to have one made", c.DID)
		}
	default:
		bad(names.HoldDIDMethod, "%q, want web or plc", c.DIDMethod)
	}
	for _, did := range c.AppViewDIDs {
		if _, err := syntax.ParseDID(did); err != nil {
			bad(names.HoldAppViewDIDs, "%q is not a DID", did)
		}
	}
	for _, p := range c.AllowedPrivatePorts {
		if p < 1 || p > 65535 {
			bad(names.HoldAllowedPrivatePorts, "%d is not a port", p)
		}
	}
	if c.LogFormatter != "text" && c.LogFormatter != "json" {
		bad(names.HoldLogFormatter, "%q, want text or json", c.LogFormatter)
	}
	if c.ShutdownGrace < 0 {
		bad(names.HoldShutdownGrace, "must not be negative")
	}
	if c.UploadTTL < time.Minute {
		bad(names.HoldUploadTTL, "%s, want at least 1m: uploads in progress would be lost", c.UploadTTL)
	}
	if c.MaxUploads < 1 {
		bad(names.HoldMaxUploads, "%d, want at least 1", c.MaxUploads)
	}
	if c.StatsInterval <= 0 {
		bad(names.HoldStatsInterval, "%s, want more than nothing, such as 1m", c.StatsInterval)
	}
	if _, err := parseTiers(c); err != nil {
		errs = append(errs, err)
	}
	if c.GCInterval < time.Minute {
		bad(names.HoldGCInterval, "%s, want at least 1m", c.GCInterval)
	}
	if c.GCGrace < notifyHorizon {
		bad(names.HoldGCGrace, "%s, want at least %s: for so long registries may still tell of manifests that name a blob", c.GCGrace, notifyHorizon)
	}
	switch c.StorageDriver {
	case driverFilesystem:
		if c.StorageRootDir == "" {
			bad(names.StorageRootDir, "required by the filesystem driver")
		}
	case driverS3:
		if !slices.Contains([]s3.Addressing{s3.AddressAuto, s3.AddressPath, s3.AddressVirtual}, s3.Addressing(c.S3Addressing)) {
			bad(names.S3Addressing, "%q, want auto, path or virtual", c.S3Addressing)
		}
		for name, v := range map[string]string{
			names.S3Bucket: c.S3Bucket, names.AWSAccessKeyID: c.AWSAccessKeyID, names.AWSSecretAccessKey: c.AWSSecretAccessKey,
		} {
			if v == "" {
				bad(name, "required by the s3 driver")
			}
		}
	default:
		bad(names.StorageDriver, "%q, want s3 or filesystem", c.StorageDriver)
	}
	return errors.Join(errs...)
}

// keyPath is where the hold's signing key lies.
func (c Config) keyPath() string {
	if c.KeyPath != "" {
		return c.KeyPath
	}
	return filepath.Join(c.DatabaseDir, "hold.key")
}

// rotationKeyPath is where the key lies that controls the hold's did:plc.
func (c Config) rotationKeyPath() string {
	if c.RotationKeyPath != "" {
		return c.RotationKeyPath
	}
	return filepath.Join(c.DatabaseDir, "rotation.key")
}

// Files in the database directory.
func (c Config) ledgerPath() string { return filepath.Join(c.DatabaseDir, "ledger.sqlite") }
func (c Config) pdsDir() string     { return filepath.Join(c.DatabaseDir, "pds") }
func (c Config) urlKeyPath() string { return filepath.Join(c.DatabaseDir, "url.key") }

// policy says which addresses identity look-ups for strangers may reach.
func (c Config) policy() diddoc.Policy {
	return diddoc.Policy{
		AllowedPrivateCIDRs: func() []netip.Prefix { return c.AllowedPrivateCIDRs },
		AllowedPrivatePorts: func() []int { return c.AllowedPrivatePorts },
		DevLoopback:         c.TestMode,
	}
}

// publicURL checks the hold's public URL and returns it as scheme://host[:port], without a default port.
func publicURL(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, errors.New("required: the URL that clients reach this hold under, e.g. https://hold.example.com")
	}
	clean, err := diddoc.CleanEndpoint(raw)
	if err != nil {
		return nil, fmt.Errorf("want http(s)://host[:port] without a path: %w", err)
	}
	u, err := url.Parse(clean)
	if err != nil {
		return nil, err
	}
	if (u.Scheme == "http" && u.Port() == "80") || (u.Scheme == "https" && u.Port() == "443") {
		u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
	}
	if _, err := diddoc.ParseWebDID(didOf(u).String()); err != nil {
		return nil, fmt.Errorf("its host and port make no did:web: %w", err)
	}
	return u, nil
}

// didOf is the did:web of a public URL: the host, and the port as %3A when there is one.
func didOf(u *url.URL) syntax.DID {
	return syntax.DID("did:web:" + strings.Replace(u.Host, ":", "%3A", 1))
}
