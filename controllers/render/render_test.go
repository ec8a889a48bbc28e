package render_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/render"
)

var defaults = render.Defaults{Image: "r.test/atcr-appview:v1", ClusterDomain: "cluster.local"}

func appView(t *testing.T, spec string) *v1alpha1.AppView {
	t.Helper()
	av := &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: "prod", UID: "u1"}}
	require.NoError(t, yaml.UnmarshalStrict([]byte(spec), &av.Spec))
	return av
}

func service(ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.0.0.7", ClusterIPs: []string{"10.0.0.7", "fd00::7"}, Ports: ports}}
}

func TestAnEmptySpecIsARegistryInsideTheCluster(t *testing.T) {
	s := render.Resolve(appView(t, "{}"), defaults)
	require.Equal(t, "http://registry.prod.svc.cluster.local:5000", s.BaseURL)
	require.Equal(t, "registry.prod.svc.cluster.local", s.ServiceName)
	require.Equal(t, "r.test/atcr-appview:v1", s.Image)
	require.EqualValues(t, 1, s.Replicas)
	require.Equal(t, keyset.ES256, s.Rotation.Algorithm)
	require.Equal(t, 90*24*time.Hour, s.Rotation.Interval)
	require.Zero(t, s.OAuthRotation.Interval)
	require.Equal(t, 5*time.Minute, s.TokenExpiration)
	require.Equal(t, "registry-data", s.ClaimName)
	require.True(t, s.OwnClaim && s.RetainData && s.RetainKeys)
}

func TestAPortOfTheSchemeIsLeftOutOfTheURL(t *testing.T) {
	s := render.Resolve(appView(t, "exposure: {service: {port: 80}}"), defaults)
	require.Equal(t, "http://registry.prod.svc.cluster.local", s.BaseURL)
}

func TestHostsThatClientsUseAreAllowedWithoutBeingListed(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		live *corev1.Service
		want []string
	}{
		"cluster IP": {
			"{}", &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.0.0.7"}},
			[]string{"10.0.0.7:5000", "registry.prod.svc.cluster.local:5000", "registry.prod.svc:5000", "registry.prod:5000", "registry:5000"},
		},
		"node port, two families, a host of the spec": {
			"{exposure: {service: {type: NodePort}}, allowedHosts: ['Registry.LAN:5000']}", service(corev1.ServicePort{Name: "http", NodePort: 30500}),
			[]string{
				"10.0.0.7:5000", "127.0.0.1:30500", "[fd00::7]:5000", "localhost:30500", "registry.lan:5000",
				"registry.prod.svc.cluster.local:5000", "registry.prod.svc:5000", "registry.prod:5000", "registry:5000",
			},
		},
		"port 80 may be left out": {
			"exposure: {service: {port: 80}}", &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None"}},
			[]string{
				"registry", "registry.prod", "registry.prod.svc", "registry.prod.svc.cluster.local", "registry.prod.svc.cluster.local:80",
				"registry.prod.svc:80", "registry.prod:80", "registry:80",
			},
		},
		"no service yet": {"{}", nil, []string{"registry.prod.svc.cluster.local:5000", "registry.prod.svc:5000", "registry.prod:5000", "registry:5000"}},
	} {
		t.Run(name, func(t *testing.T) {
			av := appView(t, c.spec)
			require.Equal(t, c.want, render.AllowedHosts(av, render.Resolve(av, defaults), c.live))
		})
	}
}

func TestTheRuntimeFileIsReadByTheServersOwnParserAndDoesNotDependOnOrder(t *testing.T) {
	a := appView(t, "network: {allowedPrivateCIDRs: [172.16.0.0/12, 10.0.0.0/8], allowedPrivatePorts: [8080, 2583]}")
	b := appView(t, "network: {allowedPrivateCIDRs: [10.0.0.0/8, 172.16.0.0/12], allowedPrivatePorts: [2583, 8080]}")
	one, two := names.Hold{DID: "did:web:a", Endpoint: "http://a", Download: names.Proxy}, names.Hold{DID: "did:web:b"}
	file := func(av *v1alpha1.AppView, holds ...names.Hold) string {
		cm, err := render.RuntimeConfigMap(av, render.Runtime(av, render.Resolve(av, defaults), "did:web:a", holds, service()))
		require.NoError(t, err)
		return cm.Data[names.FileRuntime]
	}
	require.Equal(t, file(a, one, two), file(b, two, one))
	r, err := names.ParseRuntime([]byte(file(a, one, two)))
	require.NoError(t, err)
	require.Equal(t, "did:web:a", r.DefaultHoldDID)
	require.Equal(t, []names.Hold{one, two}, r.Holds)

	known := render.KnownRuntime(&corev1.ConfigMap{Data: map[string]string{names.FileRuntime: file(a)}})
	require.Equal(t, "did:web:a", known.DefaultHoldDID)
	require.Nil(t, render.KnownRuntime(&corev1.ConfigMap{}))
}

func environment(t *testing.T, av *v1alpha1.AppView) map[string]string {
	t.Helper()
	d := render.Deployment(av, render.Resolve(av, defaults), "hash")
	env := map[string]string{}
	for _, e := range d.Spec.Template.Spec.Containers[0].Env {
		require.NotContains(t, env, *e.Name, "set twice")
		env[*e.Name] = *e.Value
	}
	return env
}

func TestTheServiceKeepsPullsNearWhenAsked(t *testing.T) {
	near := func(spec string) *string {
		av := appView(t, spec)
		return render.Service(av, render.Resolve(av, defaults), "http").Spec.TrafficDistribution
	}
	require.Nil(t, near("{}"))
	require.Equal(t, "PreferSameZone", *near("{exposure: {service: {trafficDistribution: PreferSameZone}}}"))
}

func TestEveryFieldReachesTheServer(t *testing.T) {
	for spec, want := range map[string]string{
		"baseURL: https://r.example.com":                                     "ATCR_BASE_URL=https://r.example.com",
		"serviceName: tokens.example.com":                                    "ATCR_SERVICE_NAME=tokens.example.com",
		"tokens: {expiration: 10m}":                                          "ATCR_TOKEN_EXPIRATION=600",
		"logging: {level: debug}":                                            "ATCR_LOG_LEVEL=debug",
		"logging: {format: text}":                                            "ATCR_LOG_FORMATTER=text",
		"logging: {access: errors}":                                          "ATCR_ACCESS_LOG=errors",
		"identity: {plcURL: 'http://plc:2582'}":                              "ATCR_PLC_URL=http://plc:2582",
		"identity: {handleResolverURL: 'http://pds:2583'}":                   "ATCR_HANDLE_RESOLVER_URL=http://pds:2583",
		"development: Enabled":                                               "TEST_MODE=true",
		"podTemplate: {env: [{name: HTTPS_PROXY, value: 'http://$(HOST)'}]}": "HTTPS_PROXY=http://$$(HOST)",
		"exposure: {tls: {secretRef: {name: mine}}}":                         "ATCR_TLS_CERT_PATH=/etc/atcr/tls/tls.crt",
		"exposure: {service: {port: 443}, tls: {secretRef: {name: mine}}}":   "ATCR_BASE_URL=https://registry.prod.svc.cluster.local",
		"database: {type: None}":                                             "ATCR_REFRESH_TOKENS=false",
		"{}":                                                                 "ATCR_AUTH_KEY_REQUIRED=true",
	} {
		t.Run(spec, func(t *testing.T) {
			env := environment(t, appView(t, spec))
			var all []string
			for k, v := range env {
				all = append(all, k+"="+v)
			}
			require.Contains(t, all, want)
		})
	}
}

func TestEveryVariableIsOneThatTheServerReads(t *testing.T) {
	known := map[string]bool{}
	for _, v := range names.AppView {
		known[v.Name] = true
	}
	for name := range environment(t, appView(t, "{development: Enabled, identity: {plcURL: 'http://a', handleResolverURL: 'http://b'}, database: {type: None}}")) {
		require.True(t, known[name], name)
	}
}

func TestAnImageIsTriedWhereTheServerRunsIfItCanBe(t *testing.T) {
	av := appView(t, "podTemplate: {tolerations: [{key: a}], affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: disk, operator: Exists}]}}]}}}")
	s := render.Resolve(av, defaults)
	pod := render.Trial(av, s, "node-1")
	require.Equal(t, render.TrialName("registry", defaults.Image), pod.Name)
	require.Len(t, pod.Spec.Tolerations, 1)
	wanted := pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	require.Len(t, wanted, 2, "besides what the spec prefers")
	require.Equal(t, []string{"node-1"}, wanted[1].Preference.MatchFields[0].Values)
	require.Len(t, av.Spec.PodTemplate.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution, 1, "the spec stays as it is")
	require.Nil(t, render.Trial(appView(t, "{}"), s, "").Spec.Affinity)
	require.NotEqual(t, pod.Name, render.TrialName("registry", "r.test/another:v1"))
}

func TestTheOperatorsLabelsWin(t *testing.T) {
	av := appView(t, `
inheritedMetadata: {labels: {app.kubernetes.io/managed-by: me, team: a}, annotations: {note: x}}
podTemplate: {metadata: {labels: {operator.atcr.io/appview: other, tier: b}, annotations: {operator.atcr.io/consumed-hash: mine}}}`)
	d := render.Deployment(av, render.Resolve(av, defaults), "hash")
	require.Equal(t, v1alpha1.ManagedBy, d.Labels[v1alpha1.LabelManagedBy])
	require.Equal(t, "a", d.Labels["team"])
	require.Equal(t, "x", d.Annotations["note"])
	require.Equal(t, "registry", d.Spec.Template.Labels[v1alpha1.LabelAppView])
	require.Equal(t, "b", d.Spec.Template.Labels["tier"])
	require.Equal(t, "hash", d.Spec.Template.Annotations[v1alpha1.AnnotationConsumedHash])
	for k, v := range render.Selector(av.Name) {
		require.Equal(t, v, d.Spec.Template.Labels[k], "the selector must match")
	}
}

func TestRenderingTwiceGivesTheSameBytes(t *testing.T) {
	av := appView(t, `
podTemplate:
  metadata: {labels: {a: b, c: d, e: f}}
  env: [{name: B, value: x}, {name: A, value: y}]
  tolerations: [{key: k, operator: Equal, value: v, effect: NoExecute, tolerationSeconds: 30}]
  resources: {requests: {cpu: 100m, memory: 64Mi}}`)
	encode := func() string {
		raw, err := json.Marshal(render.Deployment(av, render.Resolve(av, defaults), "hash"))
		require.NoError(t, err)
		return string(raw)
	}
	first := encode()
	for range 20 {
		require.Equal(t, first, encode())
	}
}

func TestWhatIsRetainedHasNoOwner(t *testing.T) {
	av := appView(t, "{}")
	s := render.Resolve(av, defaults)
	require.Empty(t, render.Claim(av, s).OwnerReferences)
	require.Empty(t, render.SealingSecret(av, []byte("k")).OwnerReferences)
	require.Len(t, render.Deployment(av, s, "").OwnerReferences, 1)
	require.Len(t, render.Service(av, s, "http").OwnerReferences, 1)
}

func TestWhoseAnObjectIs(t *testing.T) {
	av := appView(t, "{}")
	ours := map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelAppView: "registry"}
	owner := func(uid types.UID) []metav1.OwnerReference {
		return []metav1.OwnerReference{{APIVersion: "operator.atcr.io/v1alpha1", Kind: "AppView", Name: "registry", UID: uid, Controller: new(true)}}
	}

	for name, c := range map[string]struct {
		meta metav1.ObjectMeta
		want bool
	}{
		"ours by owner":                  {metav1.ObjectMeta{OwnerReferences: owner("u1")}, true},
		"ours by label":                  {metav1.ObjectMeta{Labels: ours}, true},
		"nobody's":                       {metav1.ObjectMeta{}, false},
		"another's in spite of labels":   {metav1.ObjectMeta{Labels: ours, OwnerReferences: owner("u2")}, false},
		"of an AppView of another name":  {metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelAppView: "x"}}, false},
		"labelled by somebody else only": {metav1.ObjectMeta{Labels: map[string]string{v1alpha1.LabelAppView: "registry"}}, false},
	} {
		require.Equal(t, c.want, render.Owned(av, &c.meta), name)
	}
}

func TestTheVersionIsTheTagOrDigest(t *testing.T) {
	for image, want := range map[string]string{
		"r.test:5000/a/b:v1": "v1", "r.test:5000/a/b": "latest", "r.test/a@sha256:ab": "sha256:ab", "a:v2@sha256:cd": "sha256:cd",
	} {
		require.Equal(t, want, render.Version(image), image)
	}
}

func TestTheConsumedHashKeepsFilesApart(t *testing.T) {
	require.NotEqual(t, render.ConsumedHash([]byte("ab"), []byte("c")), render.ConsumedHash([]byte("a"), []byte("bc")))
	require.Equal(t, render.ConsumedHash([]byte("a")), render.ConsumedHash([]byte("a")))
}

func TestEndpointsOfAService(t *testing.T) {
	s := render.Resolve(appView(t, "{}"), defaults)
	live := service(corev1.ServicePort{Name: "http", NodePort: 30500})
	live.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}, {Hostname: "lb.example.com"}}
	var got []string
	for _, e := range render.Endpoints(s, live) {
		got = append(got, fmt.Sprintf("%s %s", e.Type, e.Value))
	}
	require.Equal(t, []string{
		"Hostname registry.prod.svc.cluster.local:5000", "ClusterIP 10.0.0.7:5000", "ClusterIP [fd00::7]:5000", "NodePort 30500",
		"LoadBalancer 192.0.2.1:5000", "LoadBalancer lb.example.com:5000",
	}, got)
}

// k3s gives a Service of type LoadBalancer the address of every node.
func TestStatusNamesABoundedNumberOfEndpoints(t *testing.T) {
	live := service()
	for i := range 100 {
		live.Status.LoadBalancer.Ingress = append(live.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: fmt.Sprintf("192.0.2.%d", i)})
	}
	s := render.Resolve(appView(t, "exposure: {service: {type: LoadBalancer}}"), defaults)
	got := render.Endpoints(s, live)
	require.Len(t, got, 32)
	require.Equal(t, v1alpha1.EndpointHostname, got[0].Type)
}

func TestAVersionFitsIntoStatus(t *testing.T) {
	require.Len(t, render.Version("r.test/x@"+strings.Repeat("a", 400)), 256)
}
