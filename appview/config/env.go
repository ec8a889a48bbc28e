package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"atcr.io/operator/appview/config/names"
)

// environment is every variable as a user wrote it. Tags and defaults repeat [names.AppView], since tags cannot be
// computed; a test keeps them equal.
type environment struct {
	HTTPAddr            string `env:"ATCR_HTTP_ADDR" envDefault:":5000"`
	BaseURL             string `env:"ATCR_BASE_URL"`
	ServiceName         string `env:"ATCR_SERVICE_NAME"`
	DebugAddr           string `env:"ATCR_DEBUG_ADDR" envDefault:":5001"`
	DefaultHoldDID      string `env:"ATCR_DEFAULT_HOLD_DID"`
	AuthKeyPath         string `env:"ATCR_AUTH_KEY_PATH" envDefault:"/var/lib/atcr/auth/private-key.pem"`
	AuthCertPath        string `env:"ATCR_AUTH_CERT_PATH" envDefault:"/var/lib/atcr/auth/private-key.crt"`
	TokenExpiration     string `env:"ATCR_TOKEN_EXPIRATION" envDefault:"300"`
	UIEnabled           string `env:"ATCR_UI_ENABLED" envDefault:"true"`
	UIDatabasePath      string `env:"ATCR_UI_DATABASE_PATH" envDefault:"/var/lib/atcr/ui.db"`
	LogLevel            string `env:"ATCR_LOG_LEVEL" envDefault:"info"`
	LogFormatter        string `env:"ATCR_LOG_FORMATTER" envDefault:"text"`
	TLSCertPath         string `env:"ATCR_TLS_CERT_PATH"`
	TLSKeyPath          string `env:"ATCR_TLS_KEY_PATH"`
	AccessLog           string `env:"ATCR_ACCESS_LOG" envDefault:"all"`
	RefreshTokens       string `env:"ATCR_REFRESH_TOKENS" envDefault:"true"`
	HealthCheckInterval string `env:"ATCR_HEALTH_CHECK_INTERVAL" envDefault:"15m"`
	HealthCacheTTL      string `env:"ATCR_HEALTH_CACHE_TTL" envDefault:"15m"`
	JetstreamURL        string `env:"JETSTREAM_URL" envDefault:"wss://jetstream2.us-west.bsky.network/subscribe"`
	BackfillEnabled     string `env:"ATCR_BACKFILL_ENABLED" envDefault:"false"`
	RelayEndpoint       string `env:"ATCR_RELAY_ENDPOINT" envDefault:"https://relay1.us-east.bsky.network"`
	BackfillInterval    string `env:"ATCR_BACKFILL_INTERVAL" envDefault:"1h"`
	TestMode            string `env:"TEST_MODE" envDefault:"false"`
	AuthKeyRequired     string `env:"ATCR_AUTH_KEY_REQUIRED" envDefault:"false"`
	AuthKeyType         string `env:"ATCR_AUTH_KEY_TYPE" envDefault:"ecdsa"`
	SealingKeyPath      string `env:"ATCR_SEALING_KEY_PATH" envDefault:"/var/lib/atcr/auth/sealing.key"`
	OAuthKeyPath        string `env:"ATCR_OAUTH_KEY_PATH" envDefault:"/var/lib/atcr/oauth/client.key"`
	DIDKeyPath          string `env:"ATCR_DID_KEY_PATH" envDefault:"/var/lib/atcr/auth/did.key"`
	DatabaseURL         string `env:"ATCR_DATABASE_URL"`
	DatabaseDir         string `env:"ATCR_DATABASE_DIR"`
	DatabaseSSLMode     string `env:"ATCR_DATABASE_SSL_MODE"`
	DatabaseCAFile      string `env:"ATCR_DATABASE_CA_FILE"`
	DatabaseMaxOpen     string `env:"ATCR_DATABASE_MAX_OPEN"`
	DatabaseMaxIdle     string `env:"ATCR_DATABASE_MAX_IDLE"`
	TerminationLog      string `env:"ATCR_TERMINATION_LOG"`
	BackupDir           string `env:"ATCR_BACKUP_DIR"`
	BackupInterval      string `env:"ATCR_BACKUP_INTERVAL" envDefault:"24h"`
	BackupKeep          string `env:"ATCR_BACKUP_KEEP" envDefault:"7"`
	RuntimeFile         string `env:"ATCR_RUNTIME_FILE"`
	AllowedHosts        string `env:"ATCR_ALLOWED_HOSTS"`
	AllowedPrivateCIDRs string `env:"ATCR_ALLOWED_PRIVATE_CIDRS"`
	AllowedPrivatePorts string `env:"ATCR_ALLOWED_PRIVATE_PORTS"`
	PLCURL              string `env:"ATCR_PLC_URL" envDefault:"https://plc.directory"`
	HandleResolverURL   string `env:"ATCR_HANDLE_RESOLVER_URL"`
	ShutdownDelay       string `env:"ATCR_SHUTDOWN_DELAY" envDefault:"0s"`
	ShutdownGrace       string `env:"ATCR_SHUTDOWN_GRACE" envDefault:"25s"`
}

// read takes the variables out of environ (KEY=value). One that is set to nothing counts as unset, as templates and
// compose files produce them.
func read(environ []string) (environment, map[string]string, error) {
	set := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && v != "" {
			set[k] = v
		}
	}
	var e environment
	if err := env.ParseWithOptions(&e, env.Options{Environment: set}); err != nil {
		return e, nil, fmt.Errorf("reading the environment: %w", err)
	}
	return e, set, nil
}

// warnings are about variables that are set and do nothing.
func warnings(set map[string]string) []string {
	var out []string
	for _, v := range names.AppView {
		if set[v.Name] == "" || v.Activity != names.Later {
			continue
		}
		if v.Name == names.UIEnabled && set[v.Name] == "false" {
			continue // an API-only server is what it gets
		}
		out = append(out, v.Name+" is set but not active yet in this release")
	}
	out = append(out, names.Unknown(set, names.AppView, "ATCR_")...)
	slices.Sort(out)
	return out
}
