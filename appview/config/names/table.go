package names

import (
	"slices"
	"strings"
)

// Activity says whether a variable does something in this release.
type Activity string

const (
	Active   Activity = "active"
	Later    Activity = "later" // parsed and validated; the server warns "not active yet" when it is set
	Required Activity = "required"
)

// Variable documents one environment variable.
type Variable struct {
	Name     string
	Default  string // as a user would write it; empty: none, or derived as Doc says
	Activity Activity
	Seed     bool // documented by the AppView's README; its name and default must not change
	Doc      string
}

// AppView is every variable that atcr-appview reads.
var AppView = []Variable{
	{HTTPAddr, ":5000", Active, true, "Listen address of the registry API."},
	{BaseURL, "", Active, true, "Public URL: token realm and OAuth redirects. Derived from the listen address when empty, e.g. http://127.0.0.1:5000."},
	{ServiceName, "", Active, true, "Token issuer and service. Host name of the base URL when empty, or atcr.io."},
	{DebugAddr, ":5001", Active, true, "Listen address of /livez, /healthz, /readyz, /metrics and /debug/pprof."},
	{DefaultHoldDID, "", Required, true, "DID of the hold for users whose profile names none: did:web:hostname[:port]. The runtime file may name it instead."},
	{AuthKeyPath, "/var/lib/atcr/auth/private-key.pem", Active, true, "Private key that signs registry tokens; EC P-256 or RSA, PEM. Made when missing."},
	{AuthCertPath, "/var/lib/atcr/auth/private-key.crt", Active, true, "PEM bundle of the certificates of every key that verifies, replaced by a rename: one that is empty or cut off does not load. Made when missing."},
	{TokenExpiration, "300", Active, true, "Life of a registry token in seconds, 60 to 3600."},
	{UIEnabled, "true", Later, true, "Web interface. With false, and no PostgreSQL, the server keeps no database file: everything that it knows lives in memory, and is gone when it stops: sessions, uploads in progress, what holds have not heard yet of deletions, the record mirror. Clients get no refresh tokens then."},
	{UIDatabasePath, "/var/lib/atcr/ui.db", Active, true, "SQLite file."},
	{LogLevel, "info", Active, true, "debug, info, warn or error."},
	{LogFormatter, "text", Active, true, "text or json."},
	{HealthCheckInterval, "15m", Later, true, "How often holds are checked for the web interface."},
	{HealthCacheTTL, "15m", Later, true, "How long a health check is remembered; not less than the interval."},
	{JetstreamURL, "wss://jetstream2.us-west.bsky.network/subscribe", Later, true, "Jetstream for live indexing."},
	{BackfillEnabled, "false", Later, true, "Periodic sync of historical records."},
	{RelayEndpoint, "https://relay1.us-east.bsky.network", Later, true, "Relay for backfill."},
	{BackfillInterval, "1h", Later, true, "How often backfill runs."},
	{TestMode, "false", Active, true, "Plain HTTP to loopback and single-label hosts for identity. Never in production."},
	{AuthKeyRequired, "false", Active, false, "Refuse to start instead of making a missing signing or sealing key: replicas must never invent their own."},
	{AuthKeyType, "ecdsa", Active, false, "Kind of key to make when it is missing: ecdsa (P-256, ES256) or rsa (2048, RS256)."},
	{SealingKeyPath, "/var/lib/atcr/auth/sealing.key", Active, false, "Base64 of 32 random bytes; seals stored sessions. Made when missing."},
	{OAuthKeyPath, "/var/lib/atcr/oauth/client.key", Active, false, "Keys of the confidential OAuth client, P-256 in PEM, the newest first. Their public halves are served at /oauth/jwks.json; a file that is not there is none."},
	{DIDKeyPath, "/var/lib/atcr/auth/did.key", Active, false, "P-256 key of the AppView's own DID, the did:web of its base URL, with which it tells holds of pulls. Made when missing, unless " + AuthKeyRequired + " forbids that; then it signs nothing."},
	{DatabaseURL, "", Active, false, "postgres:// URL of the database that all replicas share. Empty: SQLite, for one replica."},
	{DatabaseDir, "", Active, false, "Directory with the same in files, read again for every new connection: uri, or host, port, dbname, username and password."},
	{DatabaseSSLMode, "", Active, false, "disable, allow, prefer, require, verify-ca or verify-full; wins over sslmode of the URL. Empty: as the URL says, or prefer."},
	{DatabaseCAFile, "", Active, false, "PEM certificates that the PostgreSQL server's is verified with, with verify-ca or verify-full. Empty: those of the system."},
	{DatabaseMaxOpen, "", Active, false, "Most connections to PostgreSQL, 2 to 1000. Empty: four for each processor, 10 or more."},
	{DatabaseMaxIdle, "", Active, false, "Most connections that are kept open unused. Empty: all, for half an hour."},
	{TerminationLog, "", Active, false, "File that takes the reason when the server cannot start, as /dev/termination-log of a container. Empty: none."},
	{BackupDir, "", Active, false, "Directory for backups of the SQLite file, best on another volume. Empty: none are made."},
	{BackupInterval, "24h", Active, false, "Time between two backups, a minute or more."},
	{BackupKeep, "7", Active, false, "How many backups are kept, the newest; 1 to 1000."},
	{RuntimeFile, "", Active, false, "Path of the hot-reloaded runtime file: holds, allowed hosts, private ranges."},
	{AllowedHosts, "", Active, false, "Comma-separated Host values besides the base URL's for which the token realm follows the request."},
	{AllowedPrivateCIDRs, "", Active, false, "Comma-separated private ranges that identity, PDS and hold addresses may lie in."},
	{AllowedPrivatePorts, "", Active, false, "Comma-separated ports besides 80 and 443 that such addresses may use. Empty: any port within the allowed private ranges."},
	{PLCURL, "https://plc.directory", Active, false, "PLC directory."},
	{HandleResolverURL, "", Active, false, "A service that answers com.atproto.identity.resolveHandle, asked before DNS and well-known."},
	{ShutdownDelay, "0s", Active, false, "How long after SIGTERM the server goes on to accept connections while /readyz says 503, before it stops to and the grace begins. Behind a load balancer: a little more than it takes to notice. Kubernetes needs none: the operator's pods wait before SIGTERM."},
	{ShutdownGrace, "25s", Active, false, "How long SIGTERM waits for requests in flight."},
	{TLSCertPath, "", Active, false, "Certificate chain in PEM, with which the registry API speaks HTTPS. A change is taken over for new connections. Empty: HTTP."},
	{TLSKeyPath, "", Active, false, "Private key of the certificate, PEM."},
	{RefreshTokens, "true", Active, false, "Refresh tokens for clients that ask for one, as docker login does to keep it instead of the password. With false, or without a database, clients keep the password; a refresh token that the server no longer knows fails every request, also for what is public."},
	{AccessLog, "all", Active, false, "Which requests are logged, at level info: all, errors (status 400 and above) or off."},
}

// HoldVariables is every variable that atcr-hold reads.
var HoldVariables = []Variable{
	{HoldHTTPAddr, ":8080", Active, false, "Listen address."},
	{HoldPublicURL, "", Required, false, "URL that clients and AppViews reach the hold under; its host and port make the did:web, or the handle of a did:plc."},
	{HoldOwner, "", Required, false, "DID of the captain."},
	{HoldSuccessor, "", Active, false, "DID of the hold that takes this one's place: pushes go there, reads ask it first. none: there is none any more. Empty: as the captain record says."},
	{HoldPublic, "false", Active, false, "Anonymous reads."},
	{HoldAllowAllCrew, "false", Active, false, "Any authenticated user may join the crew."},
	{HoldDatabaseDir, "/var/lib/atcr-hold", Active, false, "Embedded PDS and blob ownership."},
	{HoldKeyPath, "", Active, false, "Signing key of the hold's repository; inside the database directory when empty. Made when missing."},
	{HoldDIDMethod, "web", Active, false, "web: the DID is made of the public URL. plc: the DID is registered with the PLC directory and stays when the URL changes."},
	{HoldDID, "", Active, false, "With plc: an existing did:plc of this hold, for a new database directory. Made when empty."},
	{HoldRotationKeyPath, "", Active, false, "With plc: the key that controls the DID; rotation.key in the database directory when empty. Made with the DID."},
	{HoldRelays, "", Active, false, "Comma-separated URLs of relays that are asked at start to follow the hold's firehose."},
	{HoldPLCURL, "https://plc.directory", Active, false, "PLC directory, to verify service tokens and for a did:plc of the hold's own."},
	{HoldAllowedPrivateCIDRs, "", Active, false, "As " + AllowedPrivateCIDRs + "."},
	{HoldAllowedPrivatePorts, "", Active, false, "As " + AllowedPrivatePorts + "."},
	{HoldLogLevel, "info", Active, false, "debug, info, warn or error."},
	{HoldLogFormatter, "text", Active, false, "text or json."},
	{HoldDebugAddr, ":8081", Active, false, "Listen address of /livez, /healthz, /readyz, /metrics and /debug/pprof."},
	{HoldShutdownGrace, "25s", Active, false, "How long SIGTERM waits for requests in flight."},
	{HoldAppViewDIDs, "", Active, false, "Comma-separated DIDs of AppViews that may tell of pulls in their own name and give crew members a tier, as did:web:registry.example.com."},
	{HoldStatsInterval, "1m", Active, false, "Pulls are summed up for this long and then written in one commit."},
	{HoldUploadTTL, "24h", Active, false, "An upload without progress for this long is aborted. Blobs of a deleted manifest, and those that no manifest names, go after the same time."},
	{HoldMaxUploads, "64", Active, false, "Most uploads that one user may have in progress."},
	{HoldQuotaTiers, "", Active, false, "Quotas by tier, the lowest first: swabbie=2GB,deckhand=5GiB,quartermaster. A tier without a size has no limit. No quotas when empty."},
	{HoldNewCrewTier, "", Active, false, "Tier of crew whose record names none; the lowest when empty."},
	{HoldPlankownerCrewTier, "", Active, false, "The same for crew whose record says plankowner; as for others when empty."},
	{HoldGCEnabled, "false", Active, false, "Remove blobs and layer records that no manifest of their users names any more."},
	{HoldGCDryRun, "false", Active, false, "Only log what the garbage collection would remove."},
	{HoldGCInterval, "24h", Active, false, "Time between two garbage collections."},
	{HoldGCGrace, "240h", Active, false, "Blobs used within this time are kept, and those of a manifest that was missed within it; at least 192h, for which registries repeat notifications."},
	{TestMode, "false", Active, true, "Plain HTTP to loopback and single-label hosts for identity. Never in production."},
	{StorageDriver, "s3", Active, false, "s3 or filesystem."},
	{StorageRootDir, "", Active, false, "Root of the filesystem driver; required by it."},
	{S3Bucket, "", Active, false, "Bucket; required by the S3 driver."},
	{S3Endpoint, "", Active, false, "URL of an S3-compatible endpoint; AWS when empty."},
	{AWSRegion, "us-east-1", Active, false, "Region."},
	{AWSAccessKeyID, "", Active, false, "Required by the S3 driver."},
	{AWSSecretAccessKey, "", Active, false, "Required by the S3 driver."},
	{AWSSessionToken, "", Active, false, "Of temporary credentials."},
	{S3Addressing, "auto", Active, false, "Bucket in URLs: path (endpoint/bucket), virtual (bucket.endpoint), or auto: virtual for AWS, path for others."},
}

// Secrets are the variables whose values are never printed.
var Secrets = []string{DatabaseURL, AWSAccessKeyID, AWSSecretAccessKey, AWSSessionToken}

// Unknown are warnings of set variables that begin as the known ones do and are none of them.
func Unknown(set map[string]string, known []Variable, prefixes ...string) []string {
	var out []string
	for name, value := range set {
		// Kubernetes sets ATCR_SERVICE_HOST, ATCR_PORT and more for a Service called atcr.
		injected := strings.Contains(name, "_SERVICE_") || strings.Contains(name, "_PORT")
		ours := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		if value != "" && ours && !injected && !slices.ContainsFunc(known, func(v Variable) bool { return v.Name == name }) {
			out = append(out, name+" is not a variable of this server and is ignored; see --help for the list")
		}
	}
	slices.Sort(out)
	return out
}
