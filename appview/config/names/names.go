// Package names is the contract between the two planes: the environment variables that the server and the hold
// read, the files they watch, the ports they serve, and the schema of the hot-reloaded runtime file.
//
// The operator renders these names and the server parses them, so a renamed one does not compile on one side only.
// The package is a leaf: it imports nothing but the standard library and decides nothing.
package names

// Variables of the AppView that its README (the seed) documents. Defaults are in [AppView].
const (
	HTTPAddr            = "ATCR_HTTP_ADDR"
	BaseURL             = "ATCR_BASE_URL"
	ServiceName         = "ATCR_SERVICE_NAME"
	DebugAddr           = "ATCR_DEBUG_ADDR"
	DefaultHoldDID      = "ATCR_DEFAULT_HOLD_DID"
	AuthKeyPath         = "ATCR_AUTH_KEY_PATH"
	AuthCertPath        = "ATCR_AUTH_CERT_PATH"
	TokenExpiration     = "ATCR_TOKEN_EXPIRATION"
	UIEnabled           = "ATCR_UI_ENABLED"
	UIDatabasePath      = "ATCR_UI_DATABASE_PATH"
	LogLevel            = "ATCR_LOG_LEVEL"
	LogFormatter        = "ATCR_LOG_FORMATTER"
	HealthCheckInterval = "ATCR_HEALTH_CHECK_INTERVAL"
	HealthCacheTTL      = "ATCR_HEALTH_CACHE_TTL"
	JetstreamURL        = "JETSTREAM_URL"
	BackfillEnabled     = "ATCR_BACKFILL_ENABLED"
	RelayEndpoint       = "ATCR_RELAY_ENDPOINT"
	BackfillInterval    = "ATCR_BACKFILL_INTERVAL"
	TestMode            = "TEST_MODE"
)

// Variables of the AppView that are our own.
const (
	AuthKeyRequired     = "ATCR_AUTH_KEY_REQUIRED"
	AuthKeyType         = "ATCR_AUTH_KEY_TYPE"
	SealingKeyPath      = "ATCR_SEALING_KEY_PATH"
	OAuthKeyPath        = "ATCR_OAUTH_KEY_PATH"
	DIDKeyPath          = "ATCR_DID_KEY_PATH"
	DatabaseURL         = "ATCR_DATABASE_URL"
	DatabaseDir         = "ATCR_DATABASE_DIR"
	DatabaseSSLMode     = "ATCR_DATABASE_SSL_MODE"
	DatabaseCAFile      = "ATCR_DATABASE_CA_FILE"
	DatabaseMaxOpen     = "ATCR_DATABASE_MAX_OPEN"
	DatabaseMaxIdle     = "ATCR_DATABASE_MAX_IDLE"
	TerminationLog      = "ATCR_TERMINATION_LOG"
	BackupDir           = "ATCR_BACKUP_DIR"
	BackupInterval      = "ATCR_BACKUP_INTERVAL"
	BackupKeep          = "ATCR_BACKUP_KEEP"
	RuntimeFile         = "ATCR_RUNTIME_FILE"
	AllowedHosts        = "ATCR_ALLOWED_HOSTS"
	AllowedPrivateCIDRs = "ATCR_ALLOWED_PRIVATE_CIDRS"
	AllowedPrivatePorts = "ATCR_ALLOWED_PRIVATE_PORTS"
	PLCURL              = "ATCR_PLC_URL"
	HandleResolverURL   = "ATCR_HANDLE_RESOLVER_URL"
	ShutdownGrace       = "ATCR_SHUTDOWN_GRACE"
	ShutdownDelay       = "ATCR_SHUTDOWN_DELAY"
	AccessLog           = "ATCR_ACCESS_LOG"
	RefreshTokens       = "ATCR_REFRESH_TOKENS"
	TLSCertPath         = "ATCR_TLS_CERT_PATH"
	TLSKeyPath          = "ATCR_TLS_KEY_PATH"
)

// Variables of the hold service (atcr-hold).
const (
	HoldHTTPAddr            = "HOLD_HTTP_ADDR"
	HoldPublicURL           = "HOLD_PUBLIC_URL"
	HoldOwner               = "HOLD_OWNER"
	HoldSuccessor           = "HOLD_SUCCESSOR"
	HoldPublic              = "HOLD_PUBLIC"
	HoldAllowAllCrew        = "HOLD_ALLOW_ALL_CREW"
	HoldDatabaseDir         = "HOLD_DATABASE_DIR"
	HoldKeyPath             = "HOLD_KEY_PATH"
	HoldDIDMethod           = "HOLD_DID_METHOD"
	HoldDID                 = "HOLD_DID"
	HoldRotationKeyPath     = "HOLD_ROTATION_KEY_PATH"
	HoldRelays              = "HOLD_RELAYS"
	HoldPLCURL              = "HOLD_PLC_URL"
	HoldAllowedPrivateCIDRs = "HOLD_ALLOWED_PRIVATE_CIDRS"
	HoldAllowedPrivatePorts = "HOLD_ALLOWED_PRIVATE_PORTS"
	HoldLogLevel            = "HOLD_LOG_LEVEL"
	HoldLogFormatter        = "HOLD_LOG_FORMATTER"
	HoldDebugAddr           = "HOLD_DEBUG_ADDR"
	HoldShutdownGrace       = "HOLD_SHUTDOWN_GRACE"
	HoldUploadTTL           = "HOLD_UPLOAD_TTL"
	HoldAppViewDIDs         = "HOLD_APPVIEW_DIDS"
	HoldMaxUploads          = "HOLD_MAX_UPLOADS"
	HoldStatsInterval       = "HOLD_STATS_INTERVAL"
	HoldQuotaTiers          = "HOLD_QUOTA_TIERS"
	HoldNewCrewTier         = "HOLD_NEW_CREW_TIER"
	HoldPlankownerCrewTier  = "HOLD_PLANKOWNER_CREW_TIER"
	HoldGCEnabled           = "HOLD_GC_ENABLED"
	HoldGCDryRun            = "HOLD_GC_DRY_RUN"
	HoldGCInterval          = "HOLD_GC_INTERVAL"
	HoldGCGrace             = "HOLD_GC_GRACE"
	StorageDriver           = "STORAGE_DRIVER"
	StorageRootDir          = "STORAGE_ROOT_DIR"
	S3Bucket                = "S3_BUCKET"
	S3Endpoint              = "S3_ENDPOINT"
	AWSRegion               = "AWS_REGION"
	AWSAccessKeyID          = "AWS_ACCESS_KEY_ID"
	AWSSecretAccessKey      = "AWS_SECRET_ACCESS_KEY"
	AWSSessionToken         = "AWS_SESSION_TOKEN"
	S3Addressing            = "S3_ADDRESSING"
)

// Ports the binaries listen on unless their address variables say otherwise.
const (
	PortHTTP      = 5000 // registry API
	PortDebug     = 5001 // /livez, /readyz, /metrics, /debug/pprof
	PortHold      = 8080 // hold XRPC
	PortHoldDebug = 8081 // /livez, /readyz, /metrics of the hold
)

// Paths on the debug listener of both servers.
const (
	PathLive    = "/livez"
	PathHealthz = "/healthz" // the same
	PathReady   = "/readyz"
	PathMetrics = "/metrics"
	PathHealth  = "/xrpc/_health" // of a hold, on its public listener
)

// File names inside the Secrets and ConfigMaps that the operator mounts.
const (
	FileSigningKey  = "private-key.pem" // PKCS#8 PEM of the key that signs
	FileSigningCert = "private-key.crt" // PEM bundle, certificates of every key that verifies
	FileJWKS        = "jwks.json"       // RFC 7517 set of every key that verifies
	FileOAuthKey    = "client.key"      // PKCS#8 PEM of the OAuth client's keys, P-256: the first begins sessions, the others end theirs
	FileDIDKey      = "did.key"         // PKCS#8 PEM of the key of the AppView's own DID, P-256
	FileSealingKey  = "sealing.key"     // base64 (standard, padded) of 32 random bytes
	FileRuntime     = "runtime.json"    // [Runtime]
)

// Directories the operator mounts those files in.
const (
	DirSigning = "/etc/atcr/signing"
	DirSealing = "/etc/atcr/sealing"
	DirOAuth   = "/etc/atcr/oauth"
	DirDID     = "/etc/atcr/did"
	DirRuntime = "/etc/atcr/runtime"
	DirTLS     = "/etc/atcr/tls" // tls.crt and tls.key, of a kubernetes.io/tls Secret
	DirData    = "/var/lib/atcr"

	DirDatabase   = "/etc/atcr/database"
	DirDatabaseCA = "/etc/atcr/database-ca"
	DirBackup     = "/var/lib/atcr-backup"

	// PathTermination is where the kubelet looks for a container's last word.
	PathTermination = "/dev/termination-log"
)

// CommandSchema has a server's program say which schema of the SQLite database it brings, and with [FlagDatabaseHas] end
// with [EndedSchemaTooNew] when a database has a newer one.
const (
	CommandSchema   = "schema"
	FlagDatabaseHas = "database-has"
)
