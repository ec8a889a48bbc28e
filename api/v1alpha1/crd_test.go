package v1alpha1_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/controllers/controltest"
)

func TestMain(m *testing.M) { os.Exit(controltest.Main(m)) }

func appView(t *testing.T, spec string) *v1alpha1.AppView {
	t.Helper()
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{GenerateName: "a-"}}
	require.NoError(t, yaml.UnmarshalStrict([]byte(spec), &av.Spec))
	return av
}

func holdLink(t *testing.T, spec string) *v1alpha1.HoldLink {
	t.Helper()
	h := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{GenerateName: "h-"}}
	require.NoError(t, yaml.UnmarshalStrict([]byte(spec), &h.Spec))
	h.Spec.AppViewRef.Name = "a"
	return h
}

// Each is refused by the API server, and those that one object can be checked by also by the pure function, which an
// object that is older than a rule meets.
func TestSpecsOfAppViewsThatAreRefused(t *testing.T) {
	e := controltest.New(t)
	for name, c := range map[string]struct{ spec, says string }{
		"a path in baseURL":              {"baseURL: https://r.example.com/x", "baseURL"},
		"a query in baseURL":             {"baseURL: https://r.example.com?x=1", "baseURL"},
		"a user in baseURL":              {"baseURL: https://me@r.example.com", "baseURL"},
		"another scheme":                 {"baseURL: ftp://r.example.com", "baseURL"},
		"public http":                    {"baseURL: http://r.example.com", "must be https"},
		"two replicas on SQLite":         {"replicas: 2", "several need database.type PostgreSQL"},
		"two replicas on nothing":        {"{replicas: 2, database: {type: None}}", "several need database.type PostgreSQL"},
		"backups of nothing":             {"database: {type: None, sqlite: {backup: {}}}", "must be left out with type: None"},
		"a PostgreSQL for nothing":       {"database: {type: None, postgresql: {secretRef: {name: pg-app}}}", "postgresql is needed"},
		"an autoscaler of nothing":       {"{autoscaling: {max: 3}, database: {type: None}, podTemplate: {resources: {requests: {cpu: 1}}}}", "autoscaling needs database.type PostgreSQL"},
		"a negative number of replicas":  {"replicas: -1", "replicas"},
		"a default hold named twice":     {"defaultHold: {did: 'did:web:h.example.com', holdLinkRef: {name: h}}", "defaultHold"},
		"a default hold not named":       {"defaultHold: {}", "defaultHold"},
		"no DID":                         {"defaultHold: {did: 'https://h.example.com'}", "did"},
		"a DID of another method":        {"defaultHold: {did: 'did:key:z6Mk'}", "did"},
		"a selector without Selector":    {"holdLinks: {allowedNamespaces: {from: All, selector: {matchLabels: {a: b}}}}", "selector"},
		"Selector without a selector":    {"holdLinks: {allowedNamespaces: {from: Selector}}", "selector"},
		"tokens that live too short":     {"tokens: {expiration: 59s}", "expiration"},
		"tokens of half a second more":   {"tokens: {expiration: 90.5s}", "whole seconds"},
		"tokens that live too long":      {"tokens: {expiration: 61m}", "expiration"},
		"tokens that live for ages":      {"tokens: {expiration: 9999999999999h}", "expiration"},
		"a device for the server":        {"podTemplate: {resources: {claims: [{name: gpu}]}}", "claims of devices"},
		"a claim of two kinds":           {"database: {sqlite: {existingClaim: c, size: 1Gi}}", "existingClaim"},
		"a node port on a cluster IP":    {"exposure: {service: {nodePort: 30500}}", "nodePort"},
		"no range of addresses":          {"network: {allowedPrivateCIDRs: [10.0.0.1]}", "range of addresses"},
		"a variable of the server":       {"podTemplate: {env: [{name: ATCR_LOG_LEVEL, value: debug}]}", "variables of the server"},
		"the server's test mode":         {"podTemplate: {env: [{name: TEST_MODE, value: 'true'}]}", "variables of the server"},
		"a volume over our own files":    {"podTemplate: {volumes: [{name: a, mountPath: /etc/atcr/signing, secret: {name: s}}]}", "its own files"},
		"a volume over everything":       {"podTemplate: {volumes: [{name: a, mountPath: /, secret: {name: s}}]}", "mountPath"},
		"a path that goes up":            {"podTemplate: {volumes: [{name: a, mountPath: /opt/../etc, secret: {name: s}}]}", "mountPath"},
		"a volume of two kinds":          {"podTemplate: {volumes: [{name: a, mountPath: /opt/a, secret: {name: s}, configMap: {name: c}}]}", "volumes"},
		"two volumes in one place":       {"podTemplate: {volumes: [{name: a, mountPath: /opt/a, secret: {name: s}}, {name: b, mountPath: /opt/a, secret: {name: s}}]}", "same mountPath"},
		"a path in a host":               {"allowedHosts: [r.example.com/x]", "allowedHosts"},
		"a label of the operator":        {"inheritedMetadata: {labels: {operator.atcr.io/retained: 'true'}}", "the operator's"},
		"an annotation of the operator":  {"podTemplate: {metadata: {annotations: {operator.atcr.io/x: y}}}", "the operator's"},
		"the operator's on a Service":    {"exposure: {service: {annotations: {operator.atcr.io/x: y}}}", "the operator's"},
		"an unknown algorithm":           {"keys: {signing: {algorithm: HS256}}", "algorithm"},
		"a key from no Secret":           {"keys: {signing: {source: SecretRef}}", "secretRef is needed"},
		"a Secret without its source":    {"keys: {signing: {secretRef: {name: mine}}}", "secretRef is needed"},
		"a key from no issuer":           {"keys: {signing: {source: CertManager}}", "certManager is needed"},
		"an issuer without its source":   {"keys: {signing: {certManager: {issuerRef: {name: ca}}}}", "certManager is needed"},
		"an OAuth key of cert-manager":   {"keys: {oauthClient: {source: CertManager}}", "source"},
		"exposure of two kinds":          {"exposure: {ingress: {hosts: [r.example.com]}, gateway: {parentRefs: [{name: g}], hostnames: [r.example.com]}}", "exposure"},
		"an Ingress for every host":      {"exposure: {ingress: {hosts: ['*.example.com']}}", "hosts"},
		"an Ingress without a host":      {"exposure: {ingress: {hosts: []}}", "hosts"},
		"a route from no Gateway":        {"exposure: {gateway: {parentRefs: [], hostnames: [r.example.com]}}", "parentRefs"},
		"a certificate from nowhere":     {"exposure: {tls: {}}", "tls"},
		"a certificate from two places":  {"exposure: {tls: {secretRef: {name: a}, certManager: {issuerRef: {name: ca}}}}", "tls"},
		"a certificate of a minute":      {"exposure: {tls: {certManager: {issuerRef: {name: ca}, duration: 1m}}}", "between 1h"},
		"http with a certificate":        {"{baseURL: 'http://registry:5000', exposure: {tls: {secretRef: {name: a}}}}", "must be https with exposure.tls"},
		"nodes at a port that is not":    {"clusterPull: {endpoint: NodePort}", "needs exposure.service.type"},
		"nodes from nowhere":             {"clusterPull: {endpoint: Internet}", "endpoint"},
		"a registry with a path":         {"clusterPull: {registries: [r.example.com/alice]}", "registries"},
		"a source that is none":          {"keys: {signing: {source: Vault}}", "source"},
		"a schedule for a provided key":  {"keys: {signing: {source: SecretRef, secretRef: {name: mine}, rotation: {interval: 48h}}}", "provided key"},
		"a schedule by hand":             {"keys: {signing: {rotation: {mode: Manual, interval: 48h}}}", "mode Scheduled"},
		"keys that change by the hour":   {"keys: {signing: {rotation: {interval: 1h}}}", "between 24h"},
		"an OAuth key from no Secret":    {"keys: {oauthClient: {source: SecretRef}}", "secretRef is needed"},
		"an OAuth schedule by hand":      {"keys: {oauthClient: {rotation: {interval: 1000h}}}", "mode Scheduled"},
		"sessions that end at once":      {"keys: {oauthClient: {rotation: {retireAfter: 1m}}}", "retireAfter"},
		"backups by the second":          {"database: {sqlite: {backup: {interval: 59s}}}", "between 1m and 720h"},
		"no backup to keep":              {"database: {sqlite: {backup: {retention: 1001}}}", "retention"},
		"backups nowhere":                {"database: {sqlite: {backup: {destination: Tape}}}", "destination"},
		"a claim that is not used":       {"database: {sqlite: {backup: {destination: DatabaseClaim, claim: {size: 1Gi}}}}", "destination Claim"},
		"backups on claims of two kinds": {"database: {sqlite: {backup: {claim: {existingClaim: c, size: 1Gi}}}}", "existingClaim"},
		"a budget of a third kind":       {"availability: {pdb: Enabled}", "pdb"},
		"a label that is ours":           {"monitoring: {labels: {operator.atcr.io/x: y}}", "the operator's"},
		"a monitor of a fourth kind":     {"monitoring: {serviceMonitor: Maybe}", "serviceMonitor"},
		"an unknown policy":              {"networkPolicy: {mode: Audit}", "mode"},
		"an unknown database":            {"database: {type: MySQL}", "type"},
		"a PostgreSQL that is nowhere":   {"database: {type: PostgreSQL}", "postgresql is needed"},
		"a PostgreSQL and no word of it": {"database: {postgresql: {secretRef: {name: pg-app}}}", "postgresql is needed"},
		"a CA that nobody looks at":      {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, caSecretRef: {name: pg-ca}, sslMode: require}}", "verify-ca or verify-full"},
		"an unknown TLS mode":            {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, sslMode: always}}", "sslMode"},
		"a pool of one":                  {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, pool: {maxOpen: 1}}}", "maxOpen"},
		"more idle than open":            {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, pool: {maxOpen: 2, maxIdle: 3}}}", "maxIdle"},
		"an entry that is none":          {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app, keys: {uri: 'a/b'}}}}", "uri"},
		"an autoscaler of one file":      {"{autoscaling: {max: 3}, podTemplate: {resources: {requests: {cpu: 1}}}}", "autoscaling needs database.type PostgreSQL"},
		"an autoscaler without a part":   {"{autoscaling: {max: 3}, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}", "requests.cpu"},
		"an autoscaler upside down":      {"{autoscaling: {max: 1}, podTemplate: {resources: {requests: {cpu: 1}}}, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}", "must not be more than max"},
		"a name that is too long by far": {"serviceName: " + strings.Repeat("a", 300), "serviceName"},
	} {
		t.Run(name, func(t *testing.T) {
			e.TB = t
			av := appView(t, c.spec)
			av.Namespace = e.Namespace
			err := e.Client.Create(t.Context(), av)
			require.Error(t, err)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestThePureFunctionKnowsTheSameRules(t *testing.T) {
	for name, c := range map[string]struct{ spec, field string }{
		"public http":                 {"baseURL: http://r.example.com", "spec.baseURL"},
		"a path":                      {"baseURL: https://r.example.com/x", "spec.baseURL"},
		"two replicas on SQLite":      {"replicas: 2", "spec.replicas"},
		"two replicas on nothing":     {"{replicas: 2, database: {type: None}}", "spec.replicas"},
		"an autoscaler of nothing":    {"{autoscaling: {max: 3}, database: {type: None}, podTemplate: {resources: {requests: {cpu: 1}}}}", "spec.autoscaling"},
		"backups of nothing":          {"database: {type: None, sqlite: {backup: {}}}", "spec.database.sqlite.backup"},
		"a PostgreSQL for nothing":    {"database: {type: None, postgresql: {secretRef: {name: pg-app}}}", "spec.database.postgresql"},
		"too many replicas":           {"{replicas: 51, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}", "spec.replicas"},
		"a PostgreSQL nowhere":        {"database: {type: PostgreSQL}", "spec.database.postgresql"},
		"a PostgreSQL without a word": {"database: {postgresql: {secretRef: {name: pg-app}}}", "spec.database.postgresql"},
		"a CA that is not looked at":  {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, caSecretRef: {name: pg-ca}, sslMode: require}}", "spec.database.postgresql.sslMode"},
		"more idle than open":         {"database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}, pool: {maxOpen: 2, maxIdle: 3}}}", "spec.database.postgresql.pool.maxIdle"},
		"an autoscaler of one file":   {"{autoscaling: {max: 3}, podTemplate: {resources: {requests: {cpu: 1}}}}", "spec.autoscaling"},
		"an autoscaler of no part":    {"{autoscaling: {max: 3}, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}", "spec.autoscaling.targetCPU"},
		"an autoscaler upside down":   {"{autoscaling: {max: 1}, podTemplate: {resources: {limits: {cpu: 1}}}, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}", "spec.autoscaling.max"},
		"a default hold named twice":  {"defaultHold: {did: 'did:web:h.example.com', holdLinkRef: {name: h}}", "spec.defaultHold"},
		"no DID":                      {"defaultHold: {did: 'x'}", "spec.defaultHold.did"},
		"Selector without a selector": {"holdLinks: {allowedNamespaces: {from: Selector}}", "spec.holdLinks.allowedNamespaces.selector"},
		"tokens that live too short":  {"tokens: {expiration: 59s}", "spec.tokens.expiration"},
		"tokens of half a second":     {"tokens: {expiration: 60.5s}", "spec.tokens.expiration"},
		"a key from no Secret":        {"keys: {signing: {source: SecretRef}}", "spec.keys.signing.secretRef"},
		"a Secret without its source": {"keys: {signing: {secretRef: {name: mine}}}", "spec.keys.signing.secretRef"},
		"a key from no issuer":        {"keys: {signing: {source: CertManager}}", "spec.keys.signing.certManager"},
		"exposure of two kinds":       {"exposure: {ingress: {hosts: [r.example.com]}, gateway: {parentRefs: [{name: g}], hostnames: [r.example.com]}}", "spec.exposure"},
		"an Ingress for every host":   {"exposure: {ingress: {hosts: ['*.example.com']}}", "spec.exposure.ingress.hosts[0]"},
		"an Ingress without a host":   {"exposure: {ingress: {hosts: []}}", "spec.exposure.ingress.hosts"},
		"a route from no Gateway":     {"exposure: {gateway: {parentRefs: [], hostnames: [r.example.com]}}", "spec.exposure.gateway.parentRefs"},
		"a certificate from nowhere":  {"exposure: {tls: {}}", "spec.exposure.tls"},
		"a certificate of a minute":   {"exposure: {tls: {certManager: {issuerRef: {name: ca}, duration: 1m}}}", "spec.exposure.tls.certManager.duration"},
		"a certificate for no host":   {"exposure: {tls: {certManager: {issuerRef: {name: ca}, dnsNames: ['-']}}}", "spec.exposure.tls.certManager.dnsNames[0]"},
		"http with a certificate":     {"{baseURL: 'http://registry:5000', exposure: {tls: {secretRef: {name: a}}}}", "spec.baseURL"},
		"nodes at no port":            {"clusterPull: {endpoint: NodePort}", "spec.clusterPull.endpoint"},
		"a registry's port":           {"clusterPull: {registries: ['r.example.com:99999']}", "spec.clusterPull.registries[0]"},
		"a registry of six bytes":     {"{baseURL: 'https://[fd00::1]:5000', clusterPull: {}}", "spec.clusterPull.registries"},
		"a registry with a long name": {"{baseURL: 'https://" + strings.Repeat("a", 60) + "." + strings.Repeat("b.", 80) + "example.com', clusterPull: {}}", "spec.clusterPull.registries"},
		"a schedule by hand":          {"keys: {signing: {rotation: {mode: Manual, interval: 48h}}}", "spec.keys.signing.rotation.interval"},
		"keys that change too often":  {"keys: {signing: {rotation: {interval: 1h}}}", "spec.keys.signing.rotation.interval"},
		"an OAuth key of no Secret":   {"keys: {oauthClient: {source: SecretRef}}", "spec.keys.oauthClient.secretRef"},
		"an OAuth schedule by hand":   {"keys: {oauthClient: {rotation: {interval: 1000h}}}", "spec.keys.oauthClient.rotation.interval"},
		"sessions that end at once":   {"keys: {oauthClient: {rotation: {retireAfter: 1m}}}", "spec.keys.oauthClient.rotation.retireAfter"},
		"a device for the server":     {"podTemplate: {resources: {claims: [{name: gpu}]}}", "spec.podTemplate.resources.claims"},
		"a claim of two kinds":        {"database: {sqlite: {existingClaim: c, size: 1Gi}}", "spec.database.sqlite.existingClaim"},
		"backups by the second":       {"database: {sqlite: {backup: {interval: 59s}}}", "spec.database.sqlite.backup.interval"},
		"a claim that is not used":    {"database: {sqlite: {backup: {destination: DatabaseClaim, claim: {size: 1Gi}}}}", "spec.database.sqlite.backup.claim"},
		"two claims for backups":      {"database: {sqlite: {backup: {claim: {existingClaim: c, storageClassName: s}}}}", "spec.database.sqlite.backup.claim.existingClaim"},
		"no room for backups":         {"database: {sqlite: {backup: {claim: {size: '0'}}}}", "spec.database.sqlite.backup.claim.size"},
		"no size":                     {"database: {sqlite: {size: '0'}}", "spec.database.sqlite.size"},
		"a node port on a cluster IP": {"exposure: {service: {nodePort: 30500}}", "spec.exposure.service.nodePort"},
		"no range of addresses":       {"network: {allowedPrivateCIDRs: [10.0.0.1]}", "spec.network.allowedPrivateCIDRs[0]"},
		"a variable of the server":    {"podTemplate: {env: [{name: ATCR_X}]}", "spec.podTemplate.env[0].name"},
		"a volume over our own files": {"podTemplate: {volumes: [{name: a, mountPath: /tmp, secret: {name: s}}]}", "spec.podTemplate.volumes[0].mountPath"},
		"a volume of nothing":         {"podTemplate: {volumes: [{name: a, mountPath: /opt/a}]}", "spec.podTemplate.volumes[0]"},
		"two volumes in one place":    {"podTemplate: {volumes: [{name: a, mountPath: /opt/a, secret: {name: s}}, {name: b, mountPath: /opt/a, secret: {name: s}}]}", "spec.podTemplate.volumes[1].mountPath"},
		"a monitor's label of ours":   {"monitoring: {labels: {operator.atcr.io/x: y}}", "spec.monitoring.labels"},
		"a label that is none":        {"podTemplate: {metadata: {labels: {'a b': c}}}", "spec.podTemplate.metadata.labels"},
		"an annotation that is none":  {"inheritedMetadata: {annotations: {'a b': c}}", "spec.inheritedMetadata.annotations"},
		"a request over its limit":    {"podTemplate: {resources: {requests: {cpu: 2}, limits: {cpu: 1}}}", "spec.podTemplate.resources.requests[cpu]"},
		"a label of the operator":     {"inheritedMetadata: {labels: {operator.atcr.io/retained: 'true'}}", "spec.inheritedMetadata.labels"},
		"an annotation of ours":       {"exposure: {service: {annotations: {operator.atcr.io/x: y}}}", "spec.exposure.service.annotations"},
		"a port that does not exist":  {"baseURL: https://r.example.com:65536", "spec.baseURL"},
		"a PLC directory with a path": {"identity: {plcURL: 'https://plc.directory/x'}", "spec.identity.plcURL"},
	} {
		t.Run(name, func(t *testing.T) {
			av := appView(t, c.spec)
			av.Name = "a"
			errs := v1alpha1.ValidateAppView(av)
			require.NotEmpty(t, errs)
			require.Equal(t, c.field, errs[0].Field)
		})
	}
}

func TestNamesOfAppViewsThatCannotNameAService(t *testing.T) {
	e := controltest.New(t)
	for _, name := range []string{"1registry", "registry.example", strings.Repeat("a", 53)} {
		av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.Namespace}}
		require.ErrorContains(t, e.Client.Create(t.Context(), av), "metadata.name", name)
		require.NotEmpty(t, v1alpha1.ValidateAppView(av), name)
	}
}

func TestSpecsOfAppViewsThatAreTaken(t *testing.T) {
	e := controltest.New(t)
	for name, spec := range map[string]string{
		"an empty one":               "{}",
		"a public registry":          "baseURL: https://registry.example.com:8443",
		"a registry on localhost":    "baseURL: http://localhost:5000",
		"a registry in the cluster":  "baseURL: http://demo.atcr-demo.svc.cluster.local:5000",
		"a registry without a dot":   "baseURL: http://demo:5000",
		"a home network":             "baseURL: http://nas.local",
		"insecure on purpose":        "{baseURL: 'http://10.0.0.5:5000', insecure: Allowed}",
		"a hold with a port":         "defaultHold: {did: 'did:web:localhost%3A8080'}",
		"a hold with a raw port":     "defaultHold: {did: 'did:web:hold.example.com:8080'}",
		"keys that change yearly":    "keys: {signing: {rotation: {interval: 8760h}}, oauthClient: {rotation: {mode: Scheduled, interval: 8760h}}}",
		"a key of the user's":        "keys: {signing: {source: SecretRef, secretRef: {name: mine, keyKey: private-key.pem}}}",
		"a key of cert-manager's":    "keys: {signing: {source: CertManager, certManager: {issuerRef: {name: ca, kind: ClusterIssuer}, duration: 720h}}}",
		"a registry at a Gateway":    "exposure: {gateway: {parentRefs: [{name: g, namespace: edge, sectionName: https, port: 443}], hostnames: [r.example.com]}}",
		"a registry at an Ingress":   "exposure: {ingress: {className: nginx, hosts: [r.example.com, r.example.org], tlsSecretName: r-tls, annotations: {a.b/c: d}}}",
		"a certificate of one's own": "{baseURL: 'https://registry:5000', exposure: {tls: {secretRef: {name: r-tls}}}}",
		"a certificate by request":   "exposure: {tls: {certManager: {issuerRef: {name: ca, kind: ClusterIssuer}, dnsNames: [r.example.com], duration: 1h}}}",
		"help for nodes":             "clusterPull: {}",
		"all the help for nodes":     "{exposure: {service: {type: NodePort}}, clusterPull: {endpoint: NodePort, registries: ['r.example.com:8443', 10.0.0.1], localRegistryHosting: Enabled}}",
		"a hold in the directory":    "defaultHold: {did: 'did:plc:abcdefghijklmnopqrstuvwx'}",
		"no database":                "{replicas: 0, database: {type: None, sqlite: {size: 2Gi, storageClassName: s}}}",
		"an application Secret":      "{replicas: 50, database: {type: PostgreSQL, postgresql: {secretRef: {name: pg-app}}}}",
		"a PostgreSQL of one's own": `
replicas: 3
autoscaling: {min: 1, max: 50, targetCPU: 60}
podTemplate: {resources: {limits: {cpu: 1}}}
database:
  type: PostgreSQL
  sqlite: {size: 2Gi}
  postgresql:
    secretRef: {name: db, keys: {uri: URL, host: HOST, port: PORT, dbname: NAME, username: USER, password: PASS}}
    sslMode: verify-ca
    caSecretRef: {name: ca, key: root.pem}
    pool: {maxOpen: 20, maxIdle: 20}`,
		"everything at once": `
image: r.test/atcr-appview@sha256:0123456789012345678901234567890123456789012345678901234567890123
imagePullSecrets: [{name: pull}]
serviceName: registry.example.com
replicas: 0
defaultHold: {holdLinkRef: {name: h, namespace: other}}
holdLinks: {allowedNamespaces: {from: Selector, selector: {matchLabels: {team: a}}}}
keys: {signing: {source: Generated, algorithm: RS256}}
tokens: {expiration: 1h}
database: {type: SQLite, sqlite: {size: 2Gi, storageClassName: fast, accessMode: ReadWriteOncePod, backup: {interval: 6h, retention: 30, destination: Claim, claim: {size: 5Gi, storageClassName: slow}}}}
logging: {level: debug, format: text}
exposure: {service: {type: NodePort, port: 80, nodePort: 30500, annotations: {a.example.com/b: c}}}
network: {allowedPrivateCIDRs: [10.0.0.0/8, 'fd00::/8'], allowedPrivatePorts: [2583]}
allowedHosts: ['registry.lan:5000', '[fd00::1]:5000']
identity: {plcURL: 'http://plc.test:2582', handleResolverURL: 'http://plc.test:2583'}
podTemplate:
  metadata: {labels: {a: b}, annotations: {c: d}}
  resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 256Mi}}
  nodeSelector: {disk: ssd}
  tolerations: [{key: a, operator: Exists}]
  affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {a: b}}}}]}}
  priorityClassName: high
  volumes: [{name: proxy-ca, mountPath: /opt/ca, configMap: {name: ca}}, {name: more, mountPath: /opt/more, secret: {name: s}}]
  env: [{name: HTTPS_PROXY, value: 'http://proxy:3128'}]
availability: {pdb: Auto, topologySpread: Disabled}
monitoring: {serviceMonitor: Enabled, labels: {release: prometheus}}
networkPolicy: {mode: Enabled, metricsFrom: [{namespaceSelector: {}}], extraEgress: [{ports: [{port: 3128}], to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]}
inheritedMetadata: {labels: {cost-center: "7"}}
deletionPolicy: {data: Delete, keys: Delete}
reconciliation: Suspended
development: Enabled`,
	} {
		t.Run(name, func(t *testing.T) {
			e.TB = t
			av := appView(t, spec)
			e.Create(av)
			require.Empty(t, v1alpha1.ValidateAppView(av))
			require.EqualValues(t, -1, av.Status.ObservedGeneration, "nobody has looked at it yet")
		})
	}
}

func TestChangesOfAppViewsThatAreRefused(t *testing.T) {
	e := controltest.New(t)
	for name, c := range map[string]struct{ before, after, says string }{
		"another service name":  {"serviceName: a", "serviceName: b", "immutable"},
		"no service name":       {"serviceName: a", "{}", "immutable"},
		"another storage class": {"database: {sqlite: {storageClassName: a}}", "database: {sqlite: {storageClassName: b}}", "immutable"},
		"a storage class":       {"{}", "database: {sqlite: {storageClassName: b}}", "immutable"},
		"another access mode":   {"{}", "database: {sqlite: {accessMode: ReadWriteOncePod}}", "immutable"},
		"fewer backups' room":   {"database: {sqlite: {backup: {claim: {size: 2Gi}}}}", "database: {sqlite: {backup: {claim: {size: 1Gi}}}}", "only grow"},
		"backups' other class":  {"database: {sqlite: {backup: {claim: {storageClassName: a}}}}", "database: {sqlite: {backup: {claim: {storageClassName: b}}}}", "immutable"},
		"a smaller database":    {"database: {sqlite: {size: 2Gi}}", "database: {sqlite: {size: 1024Mi}}", "only grow"},
	} {
		t.Run(name, func(t *testing.T) {
			e.TB = t
			av := appView(t, c.before)
			e.Create(av)
			av.Spec = appView(t, c.after).Spec
			require.ErrorContains(t, e.Client.Update(t.Context(), av), c.says)
		})
	}
}

func TestChangesOfAppViewsThatAreTaken(t *testing.T) {
	e := controltest.New(t)
	av := appView(t, "database: {sqlite: {size: 1Gi}}")
	e.Create(av)
	av.Spec.ServiceName = "registry.example.com" // once, from nothing
	av.Spec.Database.SQLite.Size = new(resource.MustParse("3Gi"))
	av.Spec.Database.SQLite.AccessMode = "ReadWriteOnce" // what it is by default
	require.NoError(t, e.Client.Update(t.Context(), av))
}

// The remedy that the rules about the class and the mode of a claim name.
func TestAClaimOfAnotherClassIsNamedInExistingClaim(t *testing.T) {
	e := controltest.New(t)
	av := appView(t, "database: {sqlite: {storageClassName: slow, accessMode: ReadWriteOncePod}}")
	e.Create(av)
	av.Spec.Database = appView(t, "database: {sqlite: {existingClaim: mine}}").Spec.Database
	require.NoError(t, e.Client.Update(t.Context(), av))
	av.Spec.Database = appView(t, "database: {sqlite: {storageClassName: slow, accessMode: ReadWriteOncePod}}").Spec.Database
	require.NoError(t, e.Client.Update(t.Context(), av), "and back")
}

func TestAnAppViewWithoutASpecCanBeScaled(t *testing.T) {
	e := controltest.New(t)
	av := &unstructured.Unstructured{Object: map[string]any{}}
	av.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("AppView"))
	av.SetNamespace(e.Namespace)
	av.SetName("registry")
	require.NoError(t, e.Client.Create(t.Context(), av))
	replicas, found, err := unstructured.NestedInt64(av.Object, "spec", "replicas")
	require.NoError(t, err)
	require.True(t, found)
	require.EqualValues(t, 1, replicas)
}

func TestSpecsOfHoldLinksThatAreRefused(t *testing.T) {
	e := controltest.New(t)
	for name, c := range map[string]struct{ spec, says string }{
		"no hold":                    {"hold: {}", "hold"},
		"a hold named twice":         {"hold: {did: 'did:web:h.example.com', url: 'https://h.example.com'}", "hold"},
		"an endpoint for a URL":      {"{hold: {url: 'https://h.example.com'}, endpoint: 'http://h'}", "hold.did only"},
		"an endpoint with a path":    {"{hold: {did: 'did:web:h.example.com'}, endpoint: 'http://h/x'}", "endpoint"},
		"no DID":                     {"hold: {did: hold.example.com}", "did"},
		"a check that never rests":   {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {interval: 1s}}", "interval"},
		"a check that waits long":    {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {timeout: 31s}}", "timeout"},
		"a check longer than a turn": {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {interval: 10s, timeout: 11s}}", "longer than interval"},
		"a check with a query":       {"{hold: {did: 'did:web:h.example.com'}, healthCheck: {path: '/x?y'}}", "path"},
		"a Service of no namespace":  {"hold: {serviceRef: {name: h, namespace: 'A b'}}", "namespace"},
		"trust in no Secret":         {"{hold: {did: 'did:web:h.example.com'}, trust: {caBundleSecretRef: {name: ''}}}", "caBundleSecretRef"},
		"an unknown download mode":   {"{hold: {did: 'did:web:h.example.com'}, download: Push}", "download"},
	} {
		t.Run(name, func(t *testing.T) {
			h := holdLink(t, c.spec)
			h.Namespace = e.Namespace
			require.ErrorContains(t, e.Client.Create(t.Context(), h), c.says)
		})
	}
}

func TestAHoldLinkStaysWithItsAppView(t *testing.T) {
	e := controltest.New(t)
	h := holdLink(t, "hold: {did: 'did:web:h.example.com'}")
	e.Create(h)
	require.EqualValues(t, -1, h.Status.ObservedGeneration)
	h.Spec.AppViewRef.Name = "another"
	require.ErrorContains(t, e.Client.Update(t.Context(), h), "immutable")
	e.Get(h.Name, h)
	h.Spec.Hold = v1alpha1.HoldSource{URL: "https://another.example.com"}
	require.ErrorContains(t, e.Client.Update(t.Context(), h), "hold is immutable")

	// The field can be selected by, so that kubectl get hl --field-selector works.
	var list v1alpha1.HoldLinkList
	require.NoError(t, e.Client.List(t.Context(), &list, client.InNamespace(e.Namespace), client.MatchingFields{"spec.appViewRef.name": "a"}))
	require.Len(t, list.Items, 1)
}

func TestTheSamplesAreValid(t *testing.T) {
	e := controltest.New(t)
	for file, o := range map[string]client.Object{"appview.yaml": &v1alpha1.AppView{}, "holdlink.yaml": &v1alpha1.HoldLink{}} {
		raw, err := os.ReadFile("../../config/samples/" + file)
		require.NoError(t, err)
		require.NoError(t, yaml.UnmarshalStrict(raw, o))
		e.Create(o)
	}
}

func TestDeepCopiesShareNothing(t *testing.T) {
	av := appView(t, "podTemplate: {metadata: {labels: {a: b}}}")
	var o runtime.Object = av
	c := o.DeepCopyObject().(*v1alpha1.AppView)
	c.Spec.PodTemplate.Metadata.Labels["a"] = "c"
	require.Equal(t, "b", av.Spec.PodTemplate.Metadata.Labels["a"])
}
