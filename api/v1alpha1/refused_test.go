package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

// refused is a spec that cannot work, and who says so: the API server of an object that is written, and the pure function of
// one that is older than the rule.
type refused struct {
	spec string
	// says is part of the API server's answer; empty: it takes the spec, for no rule of its own can express what is wrong
	// (a port above 65535 in a string, the syntax of labels, the sign and the order of quantities).
	says string
	// field is what the pure function names first; empty: it does not look. Those are the enumerations: each has been one
	// since its field exists and only ever gets longer, so no object that is older has another word.
	field string
}

// by asks both. Neither may know a rule that the other does not, unless the table says so.
func (r refused) by(t *testing.T, apiServer error, pure field.ErrorList) {
	t.Helper()
	if r.says == "" {
		require.NoError(t, apiServer)
	} else {
		require.ErrorContains(t, apiServer, r.says)
	}
	if r.field == "" {
		require.ErrorContains(t, apiServer, "Unsupported value", "only an enumeration is the schema's alone")
		require.Empty(t, pure)
		return
	}
	require.NotEmpty(t, pure)
	require.Equal(t, r.field, pure[0].Field)
}

var refusedAppViews = map[string]refused{
	"a path in baseURL":              {"baseURL: https://r.example.com/x", "baseURL", "spec.baseURL"},
	"a query in baseURL":             {"baseURL: https://r.example.com?x=1", "baseURL", "spec.baseURL"},
	"a user in baseURL":              {"baseURL: https://me@r.example.com", "baseURL", "spec.baseURL"},
	"another scheme":                 {"baseURL: ftp://r.example.com", "baseURL", "spec.baseURL"},
	"public http":                    {"baseURL: http://r.example.com", "must be https", "spec.baseURL"},
	"two replicas on SQLite":         {"replicas: 2", "several need database.type PostgreSQL", "spec.replicas"},
	"two replicas on nothing":        {"{replicas: 2, database: {type: None}}", "several need database.type PostgreSQL", "spec.replicas"},
	"backups of nothing":             {"database: {type: None, sqlite: {backup: {}}}", "must be left out with type: None", "spec.database.sqlite.backup"},
	"a PostgreSQL for nothing":       {"database: {type: None, postgresql: {secretRef: {name: pg-app}}}", "postgresql is needed", "spec.database.postgresql"},
	"an autoscaler of nothing":       {"{autoscaling: {max: 3}, database: {type: None}, podTemplate: {resources: {requests: {cpu: 1}}}}", "autoscaling needs database.type PostgreSQL", "spec.autoscaling"},
	"a negative number of replicas":  {"replicas: -1", "replicas", "spec.replicas"},
	"a default hold named twice":     {"defaultHold: {did: 'did:web:h.example.com', holdLinkRef: {name: h}}", "defaultHold", "spec.defaultHold"},
	"a default hold not named":       {"defaultHold: {}", "defaultHold", "spec.defaultHold"},
	"no DID":                         {"defaultHold: {did: 'https://h.example.com'}", "did", "spec.defaultHold.did"},
	"a DID of another method":        {"defaultHold: {did: 'did:key:z6Mk'}", "did", "spec.defaultHold.did"},
	"a selector without Selector":    {"holdLinks: {allowedNamespaces: {from: All, selector: {matchLabels: {a: b}}}}", "selector", "spec.holdLinks.allowedNamespaces.selector"},
	"Selector without a selector":    {"holdLinks: {allowedNamespaces: {from: Selector}}", "selector", "spec.holdLinks.allowedNamespaces.selector"},
	"tokens that live too short":     {"tokens: {expiration: 59s}", "expiration", "spec.tokens.expiration"},
	"tokens of half a second more":   {"tokens: {expiration: 90.5s}", "whole seconds", "spec.tokens.expiration"},
	"tokens that live too long":      {"tokens: {expiration: 61m}", "expiration", "spec.tokens.expiration"},
	"tokens that live for ages":      {"tokens: {expiration: 9999999999999h}", "expiration", "spec.tokens.expiration"},
	"a device for the server":        {"podTemplate: {resources: {claims: [{name: gpu}]}}", "claims of devices", "spec.podTemplate.resources.claims"},
	"a claim of two kinds":           {"database: {sqlite: {existingClaim: c, size: 1Gi}}", "existingClaim", "spec.database.sqlite.existingClaim"},
	"a node port on a cluster IP":    {"exposure: {service: {nodePort: 30500}}", "nodePort", "spec.exposure.service.nodePort"},
	"no range of addresses":          {"network: {allowedPrivateCIDRs: [10.0.0.1]}", "range of addresses", "spec.network.allowedPrivateCIDRs[0]"},
	"a variable of the server":       {"podTemplate: {env: [{name: ATCR_LOG_LEVEL, value: debug}]}", "variables of the server", "spec.podTemplate.env[0].name"},
	"the server's test mode":         {"podTemplate: {env: [{name: TEST_MODE, value: 'true'}]}", "variables of the server", "spec.podTemplate.env[0].name"},
	"a volume over our own files":    {"podTemplate: {volumes: [{name: a, mountPath: /etc/atcr/signing, secret: {name: s}}]}", "its own files", "spec.podTemplate.volumes[0].mountPath"},
	"a volume over everything":       {"podTemplate: {volumes: [{name: a, mountPath: /, secret: {name: s}}]}", "mountPath", "spec.podTemplate.volumes[0].mountPath"},
	"a path that goes up":            {"podTemplate: {volumes: [{name: a, mountPath: /opt/../etc, secret: {name: s}}]}", "mountPath", "spec.podTemplate.volumes[0].mountPath"},
	"a volume of two kinds":          {"podTemplate: {volumes: [{name: a, mountPath: /opt/a, secret: {name: s}, configMap: {name: c}}]}", "volumes", "spec.podTemplate.volumes[0]"},
	"two volumes in one place":       {"podTemplate: {volumes: [{name: a, mountPath: /opt/a, secret: {name: s}}, {name: b, mountPath: /opt/a, secret: {name: s}}]}", "same mountPath", "spec.podTemplate.volumes[1].mountPath"},
	"a path in a host":               {"allowedHosts: [r.example.com/x]", "allowedHosts", "spec.allowedHosts[0]"},
	"a label of the operator":        {"inheritedMetadata: {labels: {operator.atcr.io/retained: 'true'}}", "the operator's", "spec.inheritedMetadata.labels"},
	"an annotation of the operator":  {"podTemplate: {metadata: {annotations: {operator.atcr.io/x: y}}}", "the operator's", "spec.podTemplate.metadata.annotations"},
	"the operator's on a Service":    {"exposure: {service: {annotations: {operator.atcr.io/x: y}}}", "the operator's", "spec.exposure.service.annotations"},
	"an unknown algorithm":           {"keys: {signing: {algorithm: HS256}}", "algorithm", ""},
	"a key from no Secret":           {"keys: {signing: {source: SecretRef}}", "secretRef is needed", "spec.keys.signing.secretRef"},
	"a Secret without its source":    {"keys: {signing: {secretRef: {name: mine}}}", "secretRef is needed", "spec.keys.signing.secretRef"},
	"a key from no issuer":           {"keys: {signing: {source: CertManager}}", "certManager is needed", "spec.keys.signing.certManager"},
	"an issuer without its source":   {"keys: {signing: {certManager: {issuerRef: {name: ca}}}}", "certManager is needed", "spec.keys.signing.certManager"},
	"an OAuth key of cert-manager":   {"keys: {oauthClient: {source: CertManager}}", "source", "spec.keys.oauthClient.source"},
	"exposure of two kinds":          {"exposure: {ingress: {hosts: [r.example.com]}, gateway: {parentRefs: [{name: g}], hostnames: [r.example.com]}}", "exposure", "spec.exposure"},
	"an Ingress for every host":      {"exposure: {ingress: {hosts: ['*.example.com']}}", "hosts", "spec.exposure.ingress.hosts[0]"},
	"an Ingress without a host":      {"exposure: {ingress: {hosts: []}}", "hosts", "spec.exposure.ingress.hosts"},
	"a route from no Gateway":        {"exposure: {gateway: {parentRefs: [], hostnames: [r.example.com]}}", "parentRefs", "spec.exposure.gateway.parentRefs"},
	"a certificate from nowhere":     {"exposure: {tls: {}}", "tls", "spec.exposure.tls"},
	"a certificate from two places":  {"exposure: {tls: {secretRef: {name: a}, certManager: {issuerRef: {name: ca}}}}", "tls", "spec.exposure.tls"},
	"a certificate of a minute":      {"exposure: {tls: {certManager: {issuerRef: {name: ca}, duration: 1m}}}", "between 1h", "spec.exposure.tls.certManager.duration"},
	"http with a certificate":        {"{baseURL: 'http://registry:5000', exposure: {tls: {secretRef: {name: a}}}}", "must be https with exposure.tls", "spec.baseURL"},
	"nodes at a port that is not":    {"clusterPull: {endpoint: NodePort}", "needs exposure.service.type", "spec.clusterPull.endpoint"},
	"nodes from nowhere":             {"clusterPull: {endpoint: Internet}", "endpoint", ""},
	"a registry with a path":         {"clusterPull: {registries: [r.example.com/alice]}", "registries", "spec.clusterPull.registries[0]"},
	"a source that is none":          {"keys: {signing: {source: Vault}}", "source", ""},
	"a schedule for a provided key":  {"keys: {signing: {source: SecretRef, secretRef: {name: mine}, rotation: {interval: 48h}}}", "provided key", "spec.keys.signing.rotation.interval"},
	"a schedule by hand":             {"keys: {signing: {rotation: {mode: Manual, interval: 48h}}}", "mode Scheduled", "spec.keys.signing.rotation.interval"},
	"keys that change by the hour":   {"keys: {signing: {rotation: {interval: 1h}}}", "between 24h", "spec.keys.signing.rotation.interval"},
	"an OAuth key from no Secret":    {"keys: {oauthClient: {source: SecretRef}}", "secretRef is needed", "spec.keys.oauthClient.secretRef"},
	"an OAuth schedule by hand":      {"keys: {oauthClient: {rotation: {interval: 1000h}}}", "mode Scheduled", "spec.keys.oauthClient.rotation.interval"},
	"sessions that end at once":      {"keys: {oauthClient: {rotation: {retireAfter: 1m}}}", "retireAfter", "spec.keys.oauthClient.rotation.retireAfter"},
	"backups by the second":          {"database: {sqlite: {backup: {interval: 59s}}}", "between 1m and 720h", "spec.database.sqlite.backup.interval"},
	"no backup to keep":              {"database: {sqlite: {backup: {retention: 1001}}}", "retention", "spec.database.sqlite.backup.retention"},
	"backups nowhere":                {"database: {sqlite: {backup: {destination: Tape}}}", "destination", ""},
	"a claim that is not used":       {"database: {sqlite: {backup: {destination: DatabaseClaim, claim: {size: 1Gi}}}}", "destination Claim", "spec.database.sqlite.backup.claim"},
	"backups on claims of two kinds": {"database: {sqlite: {backup: {claim: {existingClaim: c, size: 1Gi}}}}", "existingClaim", "spec.database.sqlite.backup.claim.existingClaim"},
	"a budget of a third kind":       {"availability: {pdb: Enabled}", "pdb", ""},
	"a label that is ours":           {"monitoring: {labels: {operator.atcr.io/x: y}}", "the operator's", "spec.monitoring.labels"},
	"a monitor of a fourth kind":     {"monitoring: {serviceMonitor: Maybe}", "serviceMonitor", ""},
	"an unknown policy":              {"networkPolicy: {mode: Audit}", "mode", ""},
	"an unknown database":            {"database: {type: MySQL}", "type", ""},
	"a PostgreSQL that is nowhere":   {"database: {type: PostgreSQL}", "postgresql is needed", "spec.database.postgresql"},
	"a PostgreSQL and no word of it": {"database: {postgresql: {secretRef: {name: pg-app}}}", "postgresql is needed", "spec.database.postgresql"},
	"a CA that nobody looks at":      {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, caSecretRef: {name: pg-ca}, sslMode: require}}", "verify-ca or verify-full", "spec.database.postgresql.sslMode"},
	"an unknown TLS mode":            {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, sslMode: always}}", "sslMode", ""},
	"a pool of one":                  {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, pool: {maxOpen: 1}}}", "maxOpen", "spec.database.postgresql.pool.maxOpen"},
	"more idle than open":            {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, pool: {maxOpen: 2, maxIdle: 3}}}", "maxIdle", "spec.database.postgresql.pool.maxIdle"},
	"an entry that is none":          {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app, keys: {uri: 'a/b'}}}}", "uri", "spec.database.postgresql.secretRef.keys.uri"},
	"an autoscaler of one file":      {"{autoscaling: {max: 3}, podTemplate: {resources: {requests: {cpu: 1}}}}", "autoscaling needs database.type PostgreSQL", "spec.autoscaling"},
	"an autoscaler without a part":   {"{autoscaling: {max: 3}, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}", "requests.cpu", "spec.autoscaling.targetCPU"},
	"an autoscaler upside down":      {"{autoscaling: {max: 1}, podTemplate: {resources: {requests: {cpu: 1}}}, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}", "must not be more than max", "spec.autoscaling.max"},
	"a name that is too long by far": {"serviceName: " + strings.Repeat("a", 300), "serviceName", "spec.serviceName"},
	"too many replicas":              {"{replicas: 51, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}", "replicas", "spec.replicas"},
	"a certificate for no host":      {"exposure: {tls: {certManager: {issuerRef: {name: ca}, dnsNames: ['-']}}}", "dnsNames", "spec.exposure.tls.certManager.dnsNames[0]"},
	"a registry's port":              {"clusterPull: {registries: ['r.example.com:99999']}", "", "spec.clusterPull.registries[0]"},
	"a registry of six bytes":        {"{baseURL: 'https://[fd00::1]:5000', clusterPull: {}}", "baseURL", "spec.clusterPull.registries"},
	"a registry with a long name":    {"{baseURL: 'https://" + strings.Repeat("a", 60) + "." + strings.Repeat("b.", 80) + "example.com', clusterPull: {}}", "", "spec.clusterPull.registries"},
	"two claims for backups":         {"database: {sqlite: {backup: {claim: {existingClaim: c, storageClassName: s}}}}", "existingClaim", "spec.database.sqlite.backup.claim.existingClaim"},
	"no room for backups":            {"database: {sqlite: {backup: {claim: {size: '0'}}}}", "", "spec.database.sqlite.backup.claim.size"},
	"no size":                        {"database: {sqlite: {size: '0'}}", "", "spec.database.sqlite.size"},
	"a volume over temporary files":  {"podTemplate: {volumes: [{name: a, mountPath: /tmp, secret: {name: s}}]}", "its own files", "spec.podTemplate.volumes[0].mountPath"},
	"a volume of nothing":            {"podTemplate: {volumes: [{name: a, mountPath: /opt/a}]}", "volumes", "spec.podTemplate.volumes[0]"},
	"a label that is none":           {"podTemplate: {metadata: {labels: {'a b': c}}}", "", "spec.podTemplate.metadata.labels"},
	"an annotation that is none":     {"inheritedMetadata: {annotations: {'a b': c}}", "", "spec.inheritedMetadata.annotations"},
	"a request over its limit":       {"podTemplate: {resources: {requests: {cpu: 2}, limits: {cpu: 1}}}", "", "spec.podTemplate.resources.requests[cpu]"},
	"a port that does not exist":     {"baseURL: https://r.example.com:65536", "", "spec.baseURL"},
	"a PLC directory with a path":    {"identity: {plcURL: 'https://plc.directory/x'}", "plcURL", "spec.identity.plcURL"},
	"a claim with no name of one":    {"database: {sqlite: {existingClaim: 'My claim'}}", "existingClaim", "spec.database.sqlite.existingClaim"},
	"a Gateway in no namespace":      {"exposure: {gateway: {parentRefs: [{name: g, namespace: a.b}], hostnames: [r.example.com]}}", "namespace", "spec.exposure.gateway.parentRefs[0].namespace"},
	"a Secret without a name":        {"keys: {signing: {source: SecretRef, secretRef: {name: ''}}}", "secretRef.name", "spec.keys.signing.secretRef.name"},
	"a variable with a hyphen":       {"podTemplate: {env: [{name: HTTPS-PROXY}]}", "env[0].name", "spec.podTemplate.env[0].name"},
	"a volume with no name of one":   {"podTemplate: {volumes: [{name: My files, mountPath: /opt/a, secret: {name: s}}]}", "volumes[0].name", "spec.podTemplate.volumes[0].name"},
	"a host of a port that is long":  {"allowedHosts: ['r.example.com:123456']", "allowedHosts", "spec.allowedHosts[0]"},
}

var refusedHoldLinks = map[string]refused{
	"no hold":                     {"hold: {}", "hold", "spec.hold"},
	"a hold named twice":          {"hold: {did: 'did:web:h.example.com', url: 'https://h.example.com'}", "hold", "spec.hold"},
	"an endpoint for a URL":       {"{hold: {url: 'https://h.example.com'}, endpoint: 'http://h'}", "hold.did only", "spec.endpoint"},
	"an endpoint with a path":     {"{hold: {did: 'did:web:h.example.com'}, endpoint: 'http://h/x'}", "endpoint", "spec.endpoint"},
	"no DID":                      {"hold: {did: hold.example.com}", "did", "spec.hold.did"},
	"a check that never rests":    {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {interval: 1s}}", "interval", "spec.healthCheck.interval"},
	"a check that waits long":     {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {timeout: 31s}}", "timeout", "spec.healthCheck.timeout"},
	"a check with a query":        {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {path: '/x?y'}}", "path", "spec.healthCheck.path"},
	"a Service of no namespace":   {"hold: {serviceRef: {name: h, namespace: 'A b'}}", "namespace", "spec.hold.serviceRef.namespace"},
	"trust in no Secret":          {"{hold: {did: 'did:web:h.example.com'}, trust: {caBundleSecretRef: {name: ''}}}", "caBundleSecretRef", "spec.trust.caBundleSecretRef.name"},
	"an unknown download mode":    {"{hold: {did: 'did:web:h.example.com'}, download: Push}", "download", ""},
	"a hold that never fails":     {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {failureThreshold: 11}}", "failureThreshold", "spec.healthCheck.failureThreshold"},
	"a hold that never gets well": {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {successThreshold: 11}}", "successThreshold", "spec.healthCheck.successThreshold"},
	"a Service without a name":    {"hold: {serviceRef: {port: 80}}", "serviceRef.name", "spec.hold.serviceRef.name"},
	"a port that does not exist":  {"{hold: {did: 'did:web:h.example.com'}, endpoint: 'http://h:65536'}", "", "spec.endpoint"},
}

func TestSpecsThatTheAPIServerAndThePureFunctionRefuse(t *testing.T) {
	e := controltest.New(t)
	for name, c := range refusedAppViews {
		t.Run("AppView/"+name, func(t *testing.T) {
			av := appView(t, c.spec)
			av.Namespace = e.Namespace
			err := e.Client.Create(t.Context(), av)
			av = appView(t, c.spec)
			av.Name = "a"
			c.by(t, err, v1alpha1.ValidateAppView(av))
		})
	}
	for name, c := range refusedHoldLinks {
		t.Run("HoldLink/"+name, func(t *testing.T) {
			h := holdLink(t, c.spec)
			h.Namespace = e.Namespace
			c.by(t, e.Client.Create(t.Context(), h), v1alpha1.ValidateHoldLink(holdLink(t, c.spec)))
		})
	}
}

// An operator that knows the rule must not stop looking at a hold that was attached before there was one.
func TestACheckLongerThanItsTurnIsOnlyRefusedWhenItIsWritten(t *testing.T) {
	e := controltest.New(t)
	h := holdLink(t, "{hold: {did: 'did:web:h.example.com'}, healthCheck: {interval: 10s, timeout: 11s}}")
	require.Empty(t, v1alpha1.ValidateHoldLink(h))
	h.Namespace = e.Namespace
	require.ErrorContains(t, e.Client.Create(t.Context(), h), "timeout must not be longer than interval")
}
