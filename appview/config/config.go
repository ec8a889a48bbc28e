package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"atcr.io/operator/appview/atproto/diddoc"
	"atcr.io/operator/appview/config/accesslog"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/appview/observe"
)

// Bounds of ATCR_TOKEN_EXPIRATION.
const (
	minTokenLife = time.Minute
	maxTokenLife = time.Hour
)

// Values of ATCR_ACCESS_LOG. A line costs a few microseconds and a write.
const (
	AccessLogAll    = "all"
	AccessLogErrors = "errors" // status 400 and above
	AccessLogOff    = "off"
)

// fallbackService is the service name of a base URL without a host name.
const fallbackService = "atcr.io"

// Config is the validated environment of atcr-appview. Variables are documented in [names.AppView].
type Config struct {
	HTTPAddr, DebugAddr string
	BaseURL             string // scheme://host[:port]
	ServiceName         string
	DefaultHoldDID      string // canonical; may be empty with a runtime file

	AuthKeyPath, AuthCertPath                string
	AuthKeyRequired                          bool
	AuthKeyType                              string // ecdsa or rsa
	TokenExpiration                          time.Duration
	SealingKeyPath, OAuthKeyPath, DIDKeyPath string
	didKeySet                                bool // ATCR_DID_KEY_PATH is set, not its default
	UIEnabled                                bool
	UIDatabasePath, DatabaseURL              string // DatabaseURL holds a password: never log it
	DatabaseDir                              string // instead of DatabaseURL
	DatabaseSSLMode, DatabaseCAFile          string
	DatabaseMaxOpen, DatabaseMaxIdle         int    // 0: the store decides
	RefreshTokens                            bool   // false without a database, too
	BackupDir                                string // empty: no backups
	BackupInterval                           time.Duration
	BackupKeep                               int
	LogLevel                                 slog.Level
	LogFormatter                             string // text or json
	TLSCertPath, TLSKeyPath                  string // both or neither
	AccessLog                                string // AccessLogAll, AccessLogErrors or AccessLogOff
	Tracing                                  bool   // OTEL_* variables ask for traces
	HealthCheckInterval, HealthCacheTTL      time.Duration
	JetstreamURL, RelayEndpoint              string
	BackfillEnabled                          bool
	BackfillInterval                         time.Duration
	TestMode                                 bool
	RuntimeFile                              string
	AllowedHosts                             []string // host[:port], lower case
	AllowedPrivateCIDRs                      []netip.Prefix
	AllowedPrivatePorts                      []int
	PLCURL, HandleResolverURL                string
	ShutdownDelay, ShutdownGrace             time.Duration // one after the other

	// Warnings are for the log at start: variables that are set and do nothing, and odd combinations.
	Warnings []string
}

// Load reads environ, as os.Environ gives it. The error lists everything that is wrong, one line each, naming the
// variable, its value unless that is a secret, and the remedy.
func Load(environ []string) (*Config, error) {
	e, set, err := read(environ)
	if err != nil {
		return nil, err
	}
	p := &parser{}
	c := &Config{
		HTTPAddr:            p.addr(names.HTTPAddr, e.HTTPAddr),
		DebugAddr:           p.addr(names.DebugAddr, e.DebugAddr),
		ServiceName:         e.ServiceName,
		AuthKeyPath:         e.AuthKeyPath,
		AuthCertPath:        e.AuthCertPath,
		AuthKeyRequired:     p.bool(names.AuthKeyRequired, e.AuthKeyRequired),
		AuthKeyType:         p.oneOf(names.AuthKeyType, e.AuthKeyType, "ecdsa", "rsa"),
		TokenExpiration:     p.seconds(names.TokenExpiration, e.TokenExpiration, minTokenLife, maxTokenLife),
		SealingKeyPath:      e.SealingKeyPath,
		OAuthKeyPath:        e.OAuthKeyPath,
		DIDKeyPath:          e.DIDKeyPath,
		UIEnabled:           p.bool(names.UIEnabled, e.UIEnabled),
		UIDatabasePath:      e.UIDatabasePath,
		DatabaseURL:         p.databaseURL(e.DatabaseURL),
		DatabaseDir:         e.DatabaseDir,
		DatabaseCAFile:      e.DatabaseCAFile,
		DatabaseMaxOpen:     p.number(names.DatabaseMaxOpen, e.DatabaseMaxOpen, 2),
		DatabaseMaxIdle:     p.number(names.DatabaseMaxIdle, e.DatabaseMaxIdle, 1),
		RefreshTokens:       p.bool(names.RefreshTokens, e.RefreshTokens),
		BackupDir:           e.BackupDir,
		BackupInterval:      p.backupInterval(e.BackupInterval),
		BackupKeep:          p.number(names.BackupKeep, e.BackupKeep, 1),
		LogLevel:            p.level(names.LogLevel, e.LogLevel),
		LogFormatter:        p.oneOf(names.LogFormatter, e.LogFormatter, "text", "json"),
		TLSCertPath:         e.TLSCertPath,
		TLSKeyPath:          e.TLSKeyPath,
		AccessLog:           p.oneOf(names.AccessLog, e.AccessLog, AccessLogAll, AccessLogErrors, AccessLogOff),
		HealthCheckInterval: p.duration(names.HealthCheckInterval, e.HealthCheckInterval),
		HealthCacheTTL:      p.duration(names.HealthCacheTTL, e.HealthCacheTTL),
		JetstreamURL:        p.url(names.JetstreamURL, e.JetstreamURL, "wss", "ws"),
		RelayEndpoint:       p.url(names.RelayEndpoint, e.RelayEndpoint, "https", "http"),
		BackfillEnabled:     p.bool(names.BackfillEnabled, e.BackfillEnabled),
		BackfillInterval:    p.duration(names.BackfillInterval, e.BackfillInterval),
		TestMode:            p.bool(names.TestMode, e.TestMode),
		RuntimeFile:         e.RuntimeFile,
		AllowedHosts:        hosts(e.AllowedHosts),
		AllowedPrivateCIDRs: p.cidrs(names.AllowedPrivateCIDRs, list(e.AllowedPrivateCIDRs)),
		AllowedPrivatePorts: p.ports(names.AllowedPrivatePorts, list(e.AllowedPrivatePorts)),
		PLCURL:              p.url(names.PLCURL, e.PLCURL, "https", "http"),
		HandleResolverURL:   p.url(names.HandleResolverURL, e.HandleResolverURL, "https", "http"),
		ShutdownDelay:       p.delay(names.ShutdownDelay, e.ShutdownDelay),
		ShutdownGrace:       p.duration(names.ShutdownGrace, e.ShutdownGrace),
		Warnings:            warnings(set),
	}
	if e.DatabaseSSLMode != "" {
		c.DatabaseSSLMode = p.oneOf(names.DatabaseSSLMode, e.DatabaseSSLMode, names.SSLModes...)
	}
	if c.DatabaseURL != "" && c.DatabaseDir != "" {
		p.errs = append(p.errs, fmt.Errorf("%s and %s are two databases: set one of them", names.DatabaseURL, names.DatabaseDir))
	}
	if (c.TLSCertPath == "") != (c.TLSKeyPath == "") {
		p.errs = append(p.errs, fmt.Errorf("%s and %s belong together: set both, or neither for plain HTTP", names.TLSCertPath, names.TLSKeyPath))
	}
	c.didKeySet = set[names.DIDKeyPath] != ""
	c.BaseURL = p.baseURL(e.BaseURL, c.HTTPAddr)
	if c.ServiceName == "" {
		c.ServiceName = serviceName(c.BaseURL)
	}
	if c.Tracing, err = observe.TracingWanted(func(name string) string { return set[name] }); err != nil {
		p.errs = append(p.errs, err)
	}
	c.DefaultHoldDID = p.holdDID(e.DefaultHoldDID, e.RuntimeFile != "")
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	if c.HealthCacheTTL < c.HealthCheckInterval {
		c.Warnings = append(c.Warnings, names.HealthCacheTTL+" is shorter than "+names.HealthCheckInterval+": holds will be checked more often than it says")
	}
	if c.BackupDir != "" && c.SQLitePath() == "" {
		c.Warnings = append(c.Warnings, names.BackupDir+" is for a SQLite file, and this server has none: no backups are made")
	}
	if c.InMemory() {
		c.RefreshTokens = false
		c.Warnings = append(c.Warnings, names.UIEnabled+"=false and no PostgreSQL: what this server knows is gone when it stops, such as sessions, uploads in progress and deletions that a hold has not heard of; clients get no refresh tokens. Leave it out to keep a file, or set "+names.DatabaseURL)
	}
	if c.TestMode {
		c.Warnings = append(c.Warnings, names.TestMode+"=true: plain HTTP to loopback and single-label hosts is allowed; never in production")
	}
	return c, nil
}

// Shared says whether the database is a PostgreSQL, which replicas share.
func (c *Config) Shared() bool { return c.DatabaseURL != "" || c.DatabaseDir != "" }

// InMemory says whether the database ends with the process: the seed keeps no file without the web interface.
func (c *Config) InMemory() bool { return !c.Shared() && !c.UIEnabled }

// SQLitePath is the database's file; empty when it is in none.
func (c *Config) SQLitePath() string {
	if c.Shared() || c.InMemory() {
		return ""
	}
	return c.UIDatabasePath
}

// Logger is the logger that the configuration asks for. The lines of requests wait a little; see [accesslog.Requests].
func (c *Config) Logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.LogLevel}
	return slog.New(accesslog.New(w, func(w io.Writer) slog.Handler {
		if c.LogFormatter == "json" {
			return slog.NewJSONHandler(w, o)
		}
		return slog.NewTextHandler(w, o)
	}))
}

// serviceName is the host name of the base URL, without its port.
func serviceName(base string) string {
	if u, err := url.Parse(base); err == nil && u.Hostname() != "" {
		return u.Hostname()
	}
	return fallbackService
}

// parser collects every mistake instead of stopping at the first.
type parser struct{ errs []error }

func (p *parser) fail(name, value, want string) {
	p.errs = append(p.errs, fmt.Errorf("%s=%.120q: %s", name, value, want))
}

func (p *parser) addr(name, v string) string {
	_, port, err := net.SplitHostPort(v)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
		p.fail(name, v, "want host:port or :port, such as :5000")
	}
	return v
}

func (p *parser) bool(name, v string) bool {
	b, err := strconv.ParseBool(v)
	if err != nil {
		p.fail(name, v, "want true or false")
	}
	return b
}

func (p *parser) oneOf(name, v string, allowed ...string) string {
	v = strings.ToLower(v)
	if !slices.Contains(allowed, v) {
		p.fail(name, v, "want "+strings.Join(allowed, " or "))
	}
	return v
}

func (p *parser) level(name, v string) slog.Level {
	switch strings.ToLower(v) {
	case "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warn", "warning":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	p.fail(name, v, "want debug, info, warn or error")
	return slog.LevelInfo
}

func (p *parser) seconds(name, v string, least, most time.Duration) time.Duration {
	n, err := strconv.Atoi(v)
	d := time.Duration(n) * time.Second
	if err != nil || d < least || d > most {
		p.fail(name, v, fmt.Sprintf("want seconds, a whole number from %d to %d", int(least.Seconds()), int(most.Seconds())))
	}
	return d
}

func (p *parser) duration(name, v string) time.Duration {
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		p.fail(name, v, "want a duration above zero, such as 30s, 15m or 1h")
	}
	return d
}

func (p *parser) delay(name, v string) time.Duration {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		p.fail(name, v, "want a duration such as 0s, 15s or 1m")
	}
	return d
}

func (p *parser) url(name, v string, schemes ...string) string {
	if v == "" {
		return ""
	}
	u, err := url.Parse(v)
	if err != nil || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" || u.User != nil {
		want := "want a URL such as " + schemes[0] + "://host[:port], without user information"
		if strings.Contains(v, "@") { // a password where none belongs
			p.errs = append(p.errs, fmt.Errorf("%s: %s", name, want))
		} else {
			p.fail(name, v, want)
		}
	}
	return strings.TrimSuffix(v, "/")
}

func (p *parser) databaseURL(v string) string {
	if v != "" && !strings.HasPrefix(v, "postgres://") && !strings.HasPrefix(v, "postgresql://") {
		p.errs = append(p.errs, fmt.Errorf("%s: want postgres://user:password@host/database; leave it empty for SQLite", names.DatabaseURL))
	}
	return v
}

// backupInterval: names of backups tell seconds apart, and each reads the whole database twice.
func (p *parser) backupInterval(v string) time.Duration {
	d := p.duration(names.BackupInterval, v)
	if d > 0 && d < time.Minute {
		p.fail(names.BackupInterval, v, "want a minute or more, such as 1h or 24h")
	}
	return d
}

// number is one up to 1000; 0 when it is left open.
func (p *parser) number(name, v string, least int) int {
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > 1000 {
		p.fail(name, v, fmt.Sprintf("want a whole number from %d to 1000", least))
	}
	return n
}

func (p *parser) baseURL(v, httpAddr string) string {
	if v == "" {
		host, port, err := net.SplitHostPort(httpAddr)
		if err != nil {
			return ""
		}
		if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return "http://" + net.JoinHostPort(host, port)
	}
	clean, err := diddoc.CleanEndpoint(v)
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: want the public URL as scheme://host[:port], such as https://registry.example.com, without a path", names.BaseURL))
	}
	return clean
}

func (p *parser) holdDID(v string, hasRuntimeFile bool) string {
	if v == "" {
		if !hasRuntimeFile {
			p.errs = append(p.errs, fmt.Errorf("%s is not set: name the hold that keeps blobs, such as did:web:127.0.0.1:8080; a hold shows its DID at /.well-known/did.json", names.DefaultHoldDID))
		}
		return ""
	}
	did, err := HoldDID(v)
	if err != nil {
		p.fail(names.DefaultHoldDID, v, err.Error())
	}
	return did
}

// HoldDID checks and canonicalises the DID of a hold: did:web with an optional port, or did:plc.
func HoldDID(v string) (string, error) {
	if strings.HasPrefix(v, "did:web:") {
		return diddoc.CanonicalWebDID(v)
	}
	if _, err := syntax.ParseDID(v); err != nil || !strings.HasPrefix(v, "did:plc:") {
		return "", errors.New("want did:web:hostname[:port], or a did:plc")
	}
	return v, nil
}

func (p *parser) cidrs(name string, values []string) []netip.Prefix {
	out, err := prefixes(values)
	if err != nil {
		p.fail(name, strings.Join(values, ","), err.Error())
	}
	return out
}

func prefixes(values []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, v := range values {
		pre, err := netip.ParsePrefix(v)
		if err != nil {
			return nil, fmt.Errorf("%.60q is not a range such as 10.0.0.0/8", v)
		}
		out = append(out, pre.Masked())
	}
	return out, nil
}

func (p *parser) ports(name string, values []string) []int {
	var out []int
	for _, v := range values {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 65535 {
			p.fail(name, strings.Join(values, ","), "want comma-separated ports from 1 to 65535")
			return nil
		}
		out = append(out, n)
	}
	return out
}

func list(v string) []string {
	var out []string
	for s := range strings.SplitSeq(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func hosts(v string) []string { return list(strings.ToLower(v)) }
