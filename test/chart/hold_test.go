package chart

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/hold/storage/s3test"
	"atcr.io/operator/test/testenv"
)

// holdValueFiles of the rendered variants of the hold's chart.
var holdValueFiles = []string{"hold.yaml", "hold-everything.yaml"}

// templateHold renders the hold's chart as release hold in namespace atcr.
func templateHold(t *testing.T, values string, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join("testdata", values)
	_, err := os.ReadFile(path)
	require.NoError(t, err)
	return helm(t, os.DevNull, append([]string{"template", "hold", holdChart, "--namespace", "atcr", "--kube-version", "1.31.0", "--values", path}, args...)...)
}

func holdObjects(t *testing.T, values string, args ...string) []*unstructured.Unstructured {
	t.Helper()
	out, err := templateHold(t, values, args...)
	require.NoError(t, err, out)
	return parse(t, out)
}

func envOf(d *appsv1.Deployment) map[string]string {
	out := map[string]string{}
	for _, v := range d.Spec.Template.Spec.Containers[0].Env {
		out[v.Name] = v.Value
		if v.ValueFrom != nil {
			out[v.Name] = v.ValueFrom.SecretKeyRef.Name + "/" + v.ValueFrom.SecretKeyRef.Key
		}
	}
	return out
}

func TestAHoldOnAVolume(t *testing.T) {
	all := holdObjects(t, "hold.yaml", "--set", "holdLink.enabled=true,holdLink.appView.name=registry")
	require.Len(t, all, 5)
	d := one[appsv1.Deployment](t, all, "Deployment", "hold-atcr-hold")
	require.Equal(t, "atcr.local/atcr-hold:0.1.0", d.Spec.Template.Spec.Containers[0].Image)
	require.Equal(t, appsv1.RecreateDeploymentStrategyType, d.Spec.Strategy.Type, "two holds never share a volume")
	require.EqualValues(t, 1, *d.Spec.Replicas)
	require.Equal(t, "hold-atcr-hold", d.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
	require.Equal(t, map[string]string{
		"HOLD_PUBLIC_URL": "http://hold-atcr-hold.atcr.svc.cluster.local", "HOLD_OWNER": "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
		"HOLD_PUBLIC": "false", "HOLD_ALLOW_ALL_CREW": "false", "HOLD_DATABASE_DIR": "/var/lib/atcr-hold",
		"HOLD_LOG_LEVEL": "info", "HOLD_LOG_FORMATTER": "json",
		"STORAGE_DRIVER": "filesystem", "STORAGE_ROOT_DIR": "/var/lib/atcr-hold/blobs",
	}, envOf(d))
	selects(t, d.Spec.Selector.MatchLabels, d)

	service := one[corev1.Service](t, all, "Service", "hold-atcr-hold")
	require.EqualValues(t, 80, service.Spec.Ports[0].Port)
	selects(t, service.Spec.Selector, d)
	claim := one[corev1.PersistentVolumeClaim](t, all, "PersistentVolumeClaim", "hold-atcr-hold")
	require.Equal(t, "keep", claim.Annotations["helm.sh/resource-policy"], "uninstalling must not delete the blobs")
	require.Equal(t, "10Gi", claim.Spec.Resources.Requests.Storage().String())
	require.Nil(t, claim.Spec.StorageClassName)
	account := one[corev1.ServiceAccount](t, all, "ServiceAccount", "hold-atcr-hold")
	require.False(t, *account.AutomountServiceAccountToken)

	link := one[v1alpha1.HoldLink](t, all, "HoldLink", "hold-atcr-hold")
	require.Equal(t, v1alpha1.HoldLinkSpec{
		AppViewRef: v1alpha1.AppViewReference{Name: "registry"},
		Hold:       v1alpha1.HoldSource{DID: "did:web:hold-atcr-hold.atcr.svc.cluster.local"},
		Endpoint:   "http://hold-atcr-hold.atcr.svc.cluster.local",
		Download:   v1alpha1.DownloadProxy,
	}, link.Spec)
}

func TestEveryValueOfAHoldReachesTheObjects(t *testing.T) {
	all := holdObjects(t, "hold-everything.yaml")
	d := one[appsv1.Deployment](t, all, "Deployment", "vault")
	pod, c := d.Spec.Template.Spec, d.Spec.Template.Spec.Containers[0]
	require.Equal(t, "registry.example.com:5000/atcr/hold@sha256:"+strings.Repeat("a", 64), c.Image, "a digest wins")
	require.Equal(t, corev1.PullAlways, c.ImagePullPolicy)
	require.Equal(t, []corev1.LocalObjectReference{{Name: "pull"}}, pod.ImagePullSecrets)
	require.Equal(t, map[string]string{
		"HOLD_PUBLIC_URL": "https://hold.example.com:8443", "HOLD_OWNER": "did:web:alice.example.com",
		"HOLD_PUBLIC": "true", "HOLD_ALLOW_ALL_CREW": "true", "HOLD_DATABASE_DIR": "/var/lib/atcr-hold",
		"HOLD_LOG_LEVEL": "debug", "HOLD_LOG_FORMATTER": "text",
		"HOLD_PLC_URL": "https://plc.example.com", "HOLD_APPVIEW_DIDS": "did:web:registry.example.com,did:web:other.example.com",
		"HOLD_ALLOWED_PRIVATE_CIDRS": "10.0.0.0/8,fd00::/8",
		"HOLD_QUOTA_TIERS":           "swabbie=2GB,deckhand=5GiB,quartermaster", "HOLD_NEW_CREW_TIER": "deckhand",
		"HOLD_GC_ENABLED": "true", "HOLD_GC_DRY_RUN": "true", "HOLD_GC_INTERVAL": "12h", "HOLD_GC_GRACE": "192h",
		"STORAGE_DRIVER": "s3", "S3_BUCKET": "blobs", "AWS_REGION": "eu-central-1", "S3_ADDRESSING": "path",
		"S3_ENDPOINT": "https://s3.example.com", "AWS_ACCESS_KEY_ID": "hold-s3/id", "AWS_SECRET_ACCESS_KEY": "hold-s3/secret",
		"HOLD_UPLOAD_TTL": "48h",
	}, envOf(d))
	require.Equal(t, "2Gi", c.Resources.Limits.Memory().String())
	require.Equal(t, "robot", pod.ServiceAccountName)
	require.Equal(t, "system-cluster-critical", pod.PriorityClassName)
	require.Equal(t, map[string]string{"kubernetes.io/os": "linux"}, pod.NodeSelector)
	require.Len(t, pod.Tolerations, 1)
	require.NotNil(t, pod.Affinity.NodeAffinity)
	require.EqualValues(t, 60, *pod.TerminationGracePeriodSeconds)
	require.Equal(t, "registry", d.Spec.Template.Labels["example.com/team"])
	require.Equal(t, "b", d.Spec.Template.Annotations["example.com/a"])

	claim := one[corev1.PersistentVolumeClaim](t, all, "PersistentVolumeClaim", "vault")
	require.Equal(t, map[string]string{"example.com/backup": "true"}, claim.Annotations, "keep is false")
	require.Equal(t, "fast", *claim.Spec.StorageClassName)
	require.Equal(t, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}, claim.Spec.AccessModes)

	service := one[corev1.Service](t, all, "Service", "vault")
	require.Equal(t, corev1.ServiceTypeLoadBalancer, service.Spec.Type)
	require.EqualValues(t, 8443, service.Spec.Ports[0].Port)
	require.Equal(t, "internal", service.Annotations["example.com/lb"])
	ingress := one[networkingv1.Ingress](t, all, "Ingress", "vault")
	require.Equal(t, "nginx", *ingress.Spec.IngressClassName)
	require.Equal(t, "hold.example.com", ingress.Spec.Rules[0].Host)
	require.Equal(t, []networkingv1.IngressTLS{{Hosts: []string{"hold.example.com"}, SecretName: "hold-tls"}}, ingress.Spec.TLS)
	require.Equal(t, "0", ingress.Annotations["example.com/body-size"])
	require.Equal(t, service.Spec.Ports[0].Name, ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Port.Name)

	link := one[v1alpha1.HoldLink](t, all, "HoldLink", "vault")
	require.Equal(t, v1alpha1.HoldLinkSpec{
		AppViewRef: v1alpha1.AppViewReference{Name: "registry", Namespace: "registries"},
		Hold:       v1alpha1.HoldSource{DID: "did:web:hold.example.com%3A8443"},
		Download:   v1alpha1.DownloadProxy, DisplayName: "The vault",
	}, link.Spec)
	require.Equal(t, "hold", one[corev1.ServiceAccount](t, all, "ServiceAccount", "robot").Annotations["example.com/role"])
	monitor := all[indexOf(t, all, "PodMonitor", "vault")]
	require.Equal(t, "prometheus", monitor.GetLabels()["release"])
	selector, _, err := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	require.NoError(t, err)
	selects(t, selector, d)
}

func TestSwitchesOfAHold(t *testing.T) {
	for _, c := range []struct {
		set   string
		kind  string
		wants int
	}{
		{"persistence.existingClaim=mine", "PersistentVolumeClaim", 0},
		{"persistence.keep=false", "PersistentVolumeClaim", 1},
		{"serviceAccount.create=false", "ServiceAccount", 0},
		{"ingress.enabled=false", "Ingress", 0},
		{"ingress.enabled=true,publicURL=https://hold.example.com", "Ingress", 1},
		{"holdLink.enabled=false", "HoldLink", 0},
		{"metrics.podMonitor.enabled=true", "PodMonitor", 1},
		{"metrics.podMonitor.enabled=false", "PodMonitor", 0},
	} {
		require.Len(t, ofKind(holdObjects(t, "hold.yaml", "--set", c.set), c.kind), c.wants, c.set)
	}
	d := one[appsv1.Deployment](t, holdObjects(t, "hold.yaml", "--set", "persistence.existingClaim=mine,serviceAccount.create=false"), "Deployment", "hold-atcr-hold")
	require.Equal(t, "mine", d.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
	require.Equal(t, "default", d.Spec.Template.Spec.ServiceAccountName)
	require.Nil(t, one[corev1.PersistentVolumeClaim](t, holdObjects(t, "hold.yaml", "--set", "persistence.keep=false"), "PersistentVolumeClaim", "hold-atcr-hold").Annotations)
	link := one[v1alpha1.HoldLink](t, holdObjects(t, "hold.yaml", "--set", "publicURL=https://Hold.example.com:443,holdLink.enabled=true,holdLink.appView.name=r"), "HoldLink", "hold-atcr-hold")
	require.Equal(t, v1alpha1.DID("did:web:hold.example.com"), link.Spec.Hold.DID)
	require.Equal(t, v1alpha1.DownloadRedirect, link.Spec.Download)
	require.Empty(t, link.Spec.Endpoint, "the DID document of a public hold says where it is")
}

func TestEveryObjectOfAHoldIsOneThatKubernetesKnows(t *testing.T) {
	s := scheme(t)
	for _, values := range holdValueFiles {
		for _, o := range holdObjects(t, values) {
			if o.GetKind() == "PodMonitor" {
				continue
			}
			typed, err := s.New(o.GroupVersionKind())
			require.NoError(t, err)
			require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, typed, true), o.GetName())
			require.Equal(t, "atcr", o.GetNamespace(), "%s %s", o.GetKind(), o.GetName())
		}
	}
}

func TestWrongValuesOfAHoldAreRefused(t *testing.T) {
	for _, c := range []struct{ set, says string }{
		{"ownerDID=x", "ownerDID"},
		{"owner=alice.example.com", "/owner"},
		{"publicURL=https://hold.example.com/path", "/publicURL"},
		{"publicURL=hold.example.com", "/publicURL"},
		{"public=yes", "/public"},
		{"appViewDIDs={registry}", "/appViewDIDs/0"},
		{"allowedPrivateCIDRs={10.0.0.1}", "/allowedPrivateCIDRs/0"},
		{"quotas.tiers=2GB", "/quotas/tiers"},
		{"gc.interval=often", "/gc/interval"},
		{"storage.driver=gcs", "/storage/driver"},
		{"storage.s3.addressing=dns", "/storage/s3/addressing"},
		{"storage.s3.secretKey=x", "secretKey"},
		{"persistence.size=big", "/persistence/size"},
		{"persistence.accessMode=ReadOnlyMany", "/persistence/accessMode"},
		{"service.port=0", "/service/port"},
		{"fullnameOverride=Hold", "/fullnameOverride"},
		{"holdLink.download=Stream", "/holdLink/download"},
		{"replicas=2", "replicas"},

		// What no schema can say.
		{"owner=", "owner is needed"},
		{"storage.driver=s3", "storage.s3.bucket is needed"},
		{"storage.driver=s3,storage.s3.bucket=blobs", "storage.s3.existingSecret is needed"},
		{"ingress.enabled=true", "ingress.enabled needs publicURL"},
		{"service.port=8080", "service.port other than 80 needs publicURL"},
		{"holdLink.enabled=true", "holdLink.appView.name is needed"},
	} {
		t.Run(c.set, func(t *testing.T) {
			out, err := templateHold(t, "hold.yaml", "--set", c.set)
			require.Error(t, err, out)
			require.Regexp(t, regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(c.says), "/", "[./]")), out)
			require.NotContains(t, out, "nil pointer")
		})
	}
}

// The hold takes what the chart writes: `atcr-hold config check` reads the same variables as the hold.
func TestTheHoldUnderstandsItsEnvironment(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "atcr-hold")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "atcr.io/operator/appview/cmd/atcr-hold").CombinedOutput()
	require.NoError(t, err, string(out))
	check := func(env map[string]string) (string, error) {
		env["HOLD_DATABASE_DIR"] = t.TempDir()
		if env["STORAGE_ROOT_DIR"] != "" {
			env["STORAGE_ROOT_DIR"] = t.TempDir()
		}
		cmd := exec.CommandContext(t.Context(), binary, "config", "check")
		for k, v := range env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	for _, values := range holdValueFiles {
		d := holdObjects(t, values)
		env := envOf(one[appsv1.Deployment](t, d, "Deployment", ofKind(d, "Deployment")[0].GetName()))
		out, err := check(env)
		require.NoError(t, err, "%s: %s", values, out)
		for name := range env {
			require.Contains(t, out, name, "a variable that the hold knows")
		}
		env["HOLD_PUBLIC"] = "maybe"
		_, err = check(env)
		require.Error(t, err, "it looks at them")
	}
	t.Run("and starts on S3", func(t *testing.T) { startsOnS3(t, binary) })
}

// startsOnS3 runs the hold with the chart's environment and a real S3 server until it says that it is ready.
func startsOnS3(t *testing.T, binary string) {
	s3 := s3test.Start(t)
	all := holdObjects(t, "hold.yaml", "--set", "storage.driver=s3,storage.s3.existingSecret=hold-s3,"+
		"storage.s3.bucket="+s3.Bucket(t)+",storage.s3.endpoint="+s3.Endpoint+",storage.s3.region="+s3.Region)
	env := envOf(one[appsv1.Deployment](t, all, "Deployment", "hold-atcr-hold"))
	require.Equal(t, "hold-s3/AWS_ACCESS_KEY_ID", env["AWS_ACCESS_KEY_ID"])
	env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = s3.AccessKey, s3.SecretKey // as the kubelet does
	env["HOLD_DATABASE_DIR"] = t.TempDir()
	port, err := testenv.Port("127.0.0.1")
	require.NoError(t, err)
	env["HOLD_HTTP_ADDR"], env["HOLD_DEBUG_ADDR"] = "127.0.0.1:0", fmt.Sprint("127.0.0.1:", port)

	cmd := exec.CommandContext(t.Context(), binary, "serve")
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := http.Get("http://" + env["HOLD_DEBUG_ADDR"] + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("the hold ended (%v): %s", err, out.String())
		case <-deadline.C:
			t.Fatal("the hold did not become ready")
		case <-tick.C:
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, <-ended, "a hold that is told to end ends well")
}

// The file of config/registry has the hold of the chart.
func TestTheRegistryInOneFileHasTheHoldOfTheChart(t *testing.T) {
	chartHold := holdObjects(t, "hold.yaml", "--set", "fullnameOverride=hold,public=true,allowAllCrew=true,image.tag=dev,"+
		"serviceAccount.create=false,holdLink.enabled=true,holdLink.appView.name=registry")
	file := config(t, "registry/registry.yaml")

	want := one[appsv1.Deployment](t, chartHold, "Deployment", "hold")
	got := one[appsv1.Deployment](t, file, "Deployment", "hold")
	want.Spec.Template.Spec.ServiceAccountName = "" // the file leaves it out, which is the same account
	want.Spec.RevisionHistoryLimit = nil
	require.Equal(t, want.Spec, got.Spec)
	require.Equal(t, one[corev1.Service](t, chartHold, "Service", "hold").Spec.Selector, one[corev1.Service](t, file, "Service", "hold").Spec.Selector)
	require.Equal(t, one[corev1.Service](t, chartHold, "Service", "hold").Spec.Ports, one[corev1.Service](t, file, "Service", "hold").Spec.Ports)
	require.Equal(t, one[corev1.PersistentVolumeClaim](t, chartHold, "PersistentVolumeClaim", "hold").Spec, one[corev1.PersistentVolumeClaim](t, file, "PersistentVolumeClaim", "hold").Spec)
	require.Equal(t, one[v1alpha1.HoldLink](t, chartHold, "HoldLink", "hold").Spec, one[v1alpha1.HoldLink](t, file, "HoldLink", "hold").Spec)
	require.NotNil(t, one[v1alpha1.AppView](t, file, "AppView", "registry"))
}

// A release of the hold's chart installs, upgrades and goes, and its claim stays.
func TestAReleaseOfAHoldLeavesItsDataBehind(t *testing.T) {
	c := newCluster(t)
	ns := c.OtherNamespace(map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	run := func(args ...string) string {
		out, err := helm(t, c.kubeconfig, append(args, "--namespace", ns)...)
		require.NoError(t, err, out)
		return out
	}
	owner := "owner=did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	key := client.ObjectKey{Namespace: ns, Name: "hold-atcr-hold"}

	notes := run("install", "hold", holdChart, "--set", owner)
	require.Contains(t, notes, "did:web:hold-atcr-hold."+ns+".svc.cluster.local")
	_, rest, _ := strings.Cut(notes, "<<EOF\n")
	example, _, found := strings.Cut(rest, "     EOF")
	require.True(t, found, notes)
	for _, o := range parse(t, strings.ReplaceAll("\n"+example, "\n     ", "\n")) {
		o.SetNamespace(ns)
		require.NoError(t, c.client.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")))
	}

	run("upgrade", "hold", holdChart, "--set", owner+",public=true,holdLink.enabled=true,holdLink.appView.name=registry")
	link := &v1alpha1.HoldLink{}
	require.NoError(t, c.client.Get(t.Context(), key, link))
	d := &appsv1.Deployment{}
	require.NoError(t, c.client.Get(t.Context(), key, d))
	require.Equal(t, "true", envOf(d)["HOLD_PUBLIC"])
	pod := &corev1.Pod{Spec: d.Spec.Template.Spec}
	pod.Name, pod.Namespace = "p", ns
	pod.Spec.ServiceAccountName = "default" // admission wants one that exists, and nothing here makes tokens for the chart's
	account := &corev1.ServiceAccount{}
	account.Name, account.Namespace = "default", ns
	require.NoError(t, client.IgnoreAlreadyExists(c.client.Create(t.Context(), account)))
	require.NoError(t, c.client.Create(t.Context(), pod, client.DryRunAll), "the restricted Pod Security Standard")

	run("uninstall", "hold")
	require.True(t, apierrors.IsNotFound(c.client.Get(t.Context(), key, link)))
	require.NoError(t, c.client.Get(t.Context(), key, &corev1.PersistentVolumeClaim{}))
	run("install", "hold", holdChart, "--set", owner, "--take-ownership")
	run("uninstall", "hold")
}
