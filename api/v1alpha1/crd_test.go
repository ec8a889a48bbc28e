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

func TestSpecsOfHoldLinksThatAreTaken(t *testing.T) {
	e := controltest.New(t)
	for name, spec := range map[string]string{
		"a DID":           "hold: {did: 'did:plc:abcdefghijklmnopqrstuvwx'}",
		"a URL":           "hold: {url: 'http://hold:8080'}",
		"a DID elsewhere": "{hold: {did: 'did:web:h.example.com'}, endpoint: 'http://hold.atcr.svc'}",
		"a busy check":    "{hold: {did: 'did:web:h.example.com'}, healthCheck: {interval: 30s, timeout: 30s}}",
		"a patient check": "{hold: {did: 'did:web:h.example.com'}, healthCheck: {timeout: 30s}}",
		"a check of its own": `
appViewRef: {name: a, namespace: other}
hold: {serviceRef: {name: hold, namespace: storage, port: 8443, scheme: https}}
download: Redirect
displayName: Hold
trust: {caBundleSecretRef: {name: ca.example, key: root.pem}}
healthCheck: {path: /health/~ready, interval: 1h, timeout: 1s, failureThreshold: 10, successThreshold: 10}
role: Member
reconciliation: Suspended`,
	} {
		t.Run(name, func(t *testing.T) {
			e.TB = t
			h := holdLink(t, spec)
			e.Create(h)
			require.Empty(t, v1alpha1.ValidateHoldLink(h))
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
