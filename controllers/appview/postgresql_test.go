package appview_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
)

// cnpg is an application Secret as CloudNativePG makes it, of which changes are seen at once.
func cnpg(change ...func(map[string]string)) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pg-app", Labels: map[string]string{v1alpha1.LabelWatch: "true"}}, Type: corev1.SecretTypeBasicAuth}
	s.StringData = map[string]string{
		"dbname": "app", "host": "pg-rw", "port": "5432", "user": "app", "username": "app", "password": "s3cret", "pgpass": "pg-rw:5432:app:app:s3cret",
		"uri": "postgresql://app:s3cret@pg-rw.db:5432/app", "jdbc-uri": "jdbc:postgresql://pg-rw.db:5432/app?password=s3cret&user=app",
	}
	for _, c := range change {
		c(s.StringData)
	}
	return s
}

func onPostgres(s *v1alpha1.AppViewSpec) {
	s.Database = v1alpha1.Database{Type: v1alpha1.DatabasePostgreSQL, PostgreSQL: &v1alpha1.PostgreSQL{SecretRef: v1alpha1.DatabaseSecretReference{Name: "pg-app"}}}
}

func deployment(e *controltest.Env) *appsv1.Deployment {
	e.Helper()
	d := &appsv1.Deployment{}
	e.Get("registry", d)
	return d
}

func variable(d *appsv1.Deployment, name string) string {
	for _, v := range d.Spec.Template.Spec.Containers[0].Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

func volume(d *appsv1.Deployment, name string) *corev1.Volume {
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Name == name {
			return &v
		}
	}
	return nil
}

func TestTheSecretOfCloudNativePGIsTheWholeConfiguration(t *testing.T) {
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(controltest.Counted(&requests))
	e.Kubelet()
	av := appView("registry", onPostgres, func(s *v1alpha1.AppViewSpec) { s.Replicas = new(int32(3)) })
	e.Create(cnpg(), av)
	got := e.AppView("registry", "Ready=True", "DatabaseReady=True/Connected")
	require.Equal(t, v1alpha1.DatabaseStatus{Type: v1alpha1.DatabasePostgreSQL}, got.Status.Database)
	require.EqualValues(t, 3, got.Status.ReadyReplicas)

	d := deployment(e)
	require.Equal(t, appsv1.RollingUpdateDeploymentStrategyType, d.Spec.Strategy.Type)
	require.Equal(t, 0, d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue())
	require.Equal(t, 1, d.Spec.Strategy.RollingUpdate.MaxSurge.IntValue())
	require.Equal(t, []corev1.KeyToPath{{Key: "uri", Path: "uri"}}, volume(d, "database").Secret.Items, "of the Secret only what the server needs")
	require.Equal(t, names.DirDatabase, variable(d, names.DatabaseDir))
	require.Nil(t, volume(d, "data"))
	raw, err := json.Marshal(d)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "s3cret")
	var claims corev1.PersistentVolumeClaimList
	require.NoError(t, e.Client.List(t.Context(), &claims, client.InNamespace(e.Namespace)))
	require.Empty(t, claims.Items)

	// kubectl scale
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 5}}
	require.NoError(t, e.Client.SubResource("scale").Update(t.Context(), got, client.WithSubResourceBody(scale)))
	e.Until("5 replicas", func() bool { return *deployment(e).Spec.Replicas == 5 })
	e.AppView("registry", "Ready=True")

	quiet(e, op)
	requests.Reset()
	touch(e, "registry", "a")
	quiet(e, op)
	require.Empty(t, requests.Requests())
}

func TestCredentialsThatCannotBeUsedAreNamed(t *testing.T) {
	t.Parallel()
	withCA := func(s *v1alpha1.AppViewSpec) {
		s.Database.PostgreSQL.CASecretRef = &v1alpha1.CASecretReference{Name: "pg-ca"}
	}
	ca := func(content string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pg-ca", Labels: map[string]string{v1alpha1.LabelWatch: "true"}}, StringData: map[string]string{"ca.crt": content}}
	}
	for name, c := range map[string]struct {
		secrets []client.Object
		change  func(*v1alpha1.AppViewSpec)
		want    string
		says    []string
	}{
		"no Secret":            {nil, nil, "CredentialsNotFound", []string{"spec.database.postgresql.secretRef", "pg-app", "create it"}},
		"neither URI nor host": {[]client.Object{cnpg(func(m map[string]string) { delete(m, "uri"); delete(m, "host") })}, nil, "CredentialsNotFound", []string{"pg-app", "neither uri nor host"}},
		"another database":     {[]client.Object{cnpg(func(m map[string]string) { m["uri"] = "mysql://u:s3cret@h/d" })}, nil, "CredentialsInvalid", []string{"pg-app", "uri", "postgres://"}},
		"no CA":                {[]client.Object{cnpg()}, withCA, "CredentialsNotFound", []string{"caSecretRef", "pg-ca"}},
		"an empty CA":          {[]client.Object{cnpg(), ca("")}, withCA, "CredentialsNotFound", []string{"pg-ca", "ca.crt"}},
		"a CA that is none":    {[]client.Object{cnpg(), ca("s3cret")}, withCA, "CredentialsInvalid", []string{"pg-ca", "PEM"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := controltest.New(t)
			e.Operator()
			e.Kubelet()
			e.Create(c.secrets...)
			av := appView("registry", onPostgres)
			if c.change != nil {
				c.change(&av.Spec)
			}
			e.Create(av)
			got := e.AppView("registry", "Ready=False/"+c.want, "DatabaseReady=False/"+c.want, "Stalled=True/"+c.want)
			for _, says := range c.says {
				require.Contains(t, condition(got, "DatabaseReady").Message, says)
			}
			require.NotContains(t, condition(got, "DatabaseReady").Message, "s3cret")
			e.Event("registry", c.want)

			// It is mended, and noticed at once.
			for _, s := range c.secrets {
				require.NoError(t, e.Client.Delete(t.Context(), s))
			}
			e.Create(cnpg())
			controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Database.PostgreSQL.CASecretRef = nil })
			e.AppView("registry", "Ready=True", "DatabaseReady=True/Connected")
		})
	}
}

func TestAChangedPasswordRollsNothingAndAnotherHostDoes(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	secret := cnpg()
	e.Create(secret, appView("registry", onPostgres))
	e.AppView("registry", "Ready=True")
	hash, generation := consumed(e), deployment(e).Generation

	// Both in one order: when the second is there, the first was seen.
	controltest.Update(e, secret, func(s *corev1.Secret) { s.Data["uri"] = []byte("postgresql://app:0ther@pg-rw.db:5432/app") })
	controltest.Annotate(e, &v1alpha1.AppView{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: e.Namespace}}, v1alpha1.AnnotationReconcile, "1")
	e.Until("the operator looked", func() bool { return e.AppView("registry").Status.LastHandledReconcileAt == "1" })
	require.Equal(t, hash, consumed(e), "the next connection reads the new password")
	require.Equal(t, generation, deployment(e).Generation)

	controltest.Update(e, secret, func(s *corev1.Secret) { s.Data["uri"] = []byte("postgresql://app:0ther@pg2-rw.db:5432/app") })
	e.Until("a rollout", func() bool { return consumed(e) != hash })
	e.AppView("registry", "Ready=True")

	// A Secret that goes away stops nothing.
	hash = consumed(e)
	require.NoError(t, e.Client.Delete(t.Context(), secret))
	e.AppView("registry", "Ready=False/CredentialsNotFound", "Available=True", "DatabaseReady=False/CredentialsNotFound")
	require.Equal(t, hash, consumed(e))
}

func TestPartsTLSAndPoolReachTheServer(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	secret := cnpg(func(m map[string]string) { delete(m, "uri"); m["login"] = m["username"]; delete(m, "username") })
	signing := &corev1.Secret{}
	av := appView("registry", onPostgres, func(s *v1alpha1.AppViewSpec) {
		p := s.Database.PostgreSQL
		p.SecretRef.Keys.Username = "login"
		p.CASecretRef = &v1alpha1.CASecretReference{Name: "pg-ca", Key: "root.pem"}
		p.Pool = v1alpha1.DatabasePool{MaxOpen: 20, MaxIdle: 5}
	})
	e.Create(secret, av)
	e.AppView("registry", "DatabaseReady=False/CredentialsNotFound")
	e.Get("registry-signing", signing)
	e.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "pg-ca", Labels: map[string]string{v1alpha1.LabelWatch: "true"}},
		Data: map[string][]byte{"root.pem": signing.Data[names.FileSigningCert]}}) // a certificate, whatever it is of
	e.AppView("registry", "Ready=True")

	d := deployment(e)
	require.Equal(t, []corev1.KeyToPath{{Key: "dbname", Path: "dbname"}, {Key: "host", Path: "host"}, {Key: "password", Path: "password"},
		{Key: "port", Path: "port"}, {Key: "login", Path: "username"}}, volume(d, "database").Secret.Items)
	require.Equal(t, []corev1.KeyToPath{{Key: "root.pem", Path: "ca.crt"}}, volume(d, "database-ca").Secret.Items)
	for name, want := range map[string]string{
		names.DatabaseSSLMode: "verify-full", names.DatabaseCAFile: names.DirDatabaseCA + "/ca.crt",
		names.DatabaseMaxOpen: "20", names.DatabaseMaxIdle: "5", names.UIDatabasePath: "",
	} {
		require.Equal(t, want, variable(d, name), name)
	}
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Database.PostgreSQL.SSLMode = "verify-ca" })
	e.Until("another mode", func() bool { return variable(deployment(e), names.DatabaseSSLMode) == "verify-ca" })
}

func TestAnotherTypeOfDatabaseMovesNoDataAndKeepsTheClaim(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	av := appView("registry")
	e.Create(cnpg(), av)
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimBound")
	claim := &corev1.PersistentVolumeClaim{}
	e.Get("registry-data", claim)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { onPostgres(&av.Spec); av.Spec.Replicas = new(int32(2)) })
	got := e.AppView("registry", "Ready=True", "DatabaseReady=True/Connected")
	require.Contains(t, condition(got, "DatabaseReady").Message, "data was not moved here from PersistentVolumeClaim registry-data, which is kept")
	require.Contains(t, e.Event("registry", "DatabaseSwitched").Note, "data is not moved")
	require.Nil(t, volume(deployment(e), "data"))
	after := &corev1.PersistentVolumeClaim{}
	e.Get("registry-data", after)
	require.Equal(t, claim.UID, after.UID)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Database, av.Spec.Replicas = v1alpha1.Database{}, new(int32(1)) })
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ClaimBound")
	d := deployment(e)
	require.Equal(t, appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, d.Spec.Strategy)
	require.Equal(t, "registry-data", volume(d, "data").PersistentVolumeClaim.ClaimName)
	require.Nil(t, volume(d, "database"))
	e.Get("registry-data", after)
	require.Equal(t, claim.UID, after.UID)
}

func TestServersSayThatTheyDoNotReachTheDatabase(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var servers controltest.Servers
	e.Operator(servers.Asked())
	e.Create(cnpg(), appView("registry", onPostgres))
	e.AppView("registry", "Available=False/Progressing", "DatabaseReady=False/Connecting")
	servers.Answer("10.1.2.3", names.Ready{Status: names.StatusNoDatabase})
	pod := e.Serving(deployment(e), "10.1.2.3")
	pod.Status.Conditions[0].Status = corev1.ConditionFalse
	require.NoError(t, e.Client.Status().Update(t.Context(), pod))
	status(e, func(d *appsv1.Deployment) {
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, UnavailableReplicas: 1}
	})
	av := e.AppView("registry", "Ready=False/ConnectionFailed", "DatabaseReady=False/ConnectionFailed")
	require.Contains(t, condition(av, "DatabaseReady").Message, pod.Name)
	e.Event("registry", "ConnectionFailed")

	pod.Status.Conditions[0].Status = corev1.ConditionTrue
	require.NoError(t, e.Client.Status().Update(t.Context(), pod))
	status(e, controltest.Run)
	av = e.AppView("registry", "Ready=True", "DatabaseReady=True/Connected")

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Replicas = new(int32) })
	e.Until("no replicas", func() bool { return *deployment(e).Spec.Replicas == 0 })
	status(e, controltest.Run)
	e.AppView("registry", "Ready=True", "DatabaseReady=True/ScaledToZero")
}

func TestALastWordAboutTheDatabaseIsInTheCondition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change []func(*v1alpha1.AppViewSpec)
		word   names.Termination
		want   string
		says   []string
	}{
		"a newer schema":         {[]func(*v1alpha1.AppViewSpec){onPostgres}, names.Termination{Reason: names.EndedSchemaTooNew, Have: 9, Known: 6}, "SchemaTooNew", []string{"schema 9", "knows 6", "restore a backup"}},
		"a newer schema, SQLite": {nil, names.Termination{Reason: names.EndedSchemaTooNew, Have: 9, Known: 6}, "SchemaTooNew", []string{"schema 9", "knows 6"}},
		"a full disk":            {nil, names.Termination{Reason: names.EndedDatabaseFull}, "StorageFull", []string{"is full", "spec.database.sqlite.size"}},
		"no answer":              {[]func(*v1alpha1.AppViewSpec){onPostgres}, names.Termination{Reason: names.EndedDatabaseUnavailable}, "ConnectionFailed", []string{"does not answer"}},
		"another password":       {[]func(*v1alpha1.AppViewSpec){onPostgres}, names.Termination{Reason: names.EndedDatabaseRefused}, "ConnectionFailed", []string{"refuses user, password"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := controltest.New(t)
			e.Operator()
			e.Create(cnpg(), appView("registry", c.change...))
			e.AppView("registry", "Available=False/Progressing")
			pod := e.Pod(deployment(e), "CrashLoopBackOff")
			word, err := json.Marshal(c.word)
			require.NoError(t, err)
			pod.Status.ContainerStatuses[0].LastTerminationState.Terminated.Message = string(word)
			require.NoError(t, e.Client.Status().Update(t.Context(), pod))
			av := e.AppView("registry", "Ready=False/"+c.want, "DatabaseReady=False/"+c.want, "Available=False/CrashLooping")
			for _, says := range c.says {
				require.Contains(t, condition(av, "DatabaseReady").Message, says)
				require.Contains(t, condition(av, "Available").Message, says)
			}
			e.Event("registry", c.want)

			require.NoError(t, e.Client.Delete(t.Context(), pod))
			e.Kubelet()
			e.AppView("registry", "Ready=True")
		})
	}
}

// What a container wrote that is no last word of ours is repeated nowhere.
func TestWhatAContainerWroteIsNotRepeated(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Create(appView("registry"))
	e.AppView("registry", "Available=False/Progressing")
	pod := e.Pod(deployment(e), "CrashLoopBackOff")
	pod.Status.ContainerStatuses[0].LastTerminationState.Terminated.Message = `{"reason":"s3cret"}`
	require.NoError(t, e.Client.Status().Update(t.Context(), pod))
	av := e.AppView("registry", "Available=False/CrashLooping")
	for _, c := range av.Status.Conditions {
		require.NotContains(t, c.Message, "s3cret")
	}
}

func scaling(s *v1alpha1.AppViewSpec) {
	s.Autoscaling = &v1alpha1.Autoscaling{Max: 10}
	s.PodTemplate.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
}

func TestAnAutoscalerScalesTheAppView(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	var requests controltest.Counter
	op := e.Operator(controltest.Counted(&requests))
	e.Kubelet()
	av := appView("registry", onPostgres, scaling)
	e.Create(cnpg(), av)
	e.AppView("registry", "Ready=True")
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	e.Get("registry", hpa)
	require.Equal(t, autoscalingv2.CrossVersionObjectReference{APIVersion: "operator.atcr.io/v1alpha1", Kind: "AppView", Name: "registry"}, hpa.Spec.ScaleTargetRef)
	require.EqualValues(t, 2, *hpa.Spec.MinReplicas)
	require.EqualValues(t, 10, hpa.Spec.MaxReplicas)
	require.EqualValues(t, 80, *hpa.Spec.Metrics[0].Resource.Target.AverageUtilization)

	// The controller-manager writes by the scale subresource, and its status every few seconds.
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 4}}
	require.NoError(t, e.Client.SubResource("scale").Update(t.Context(), av, client.WithSubResourceBody(scale)))
	e.Until("4 replicas", func() bool { return *deployment(e).Spec.Replicas == 4 })
	e.AppView("registry", "Ready=True")
	quiet(e, op)
	requests.Reset()
	before := reconciles(t, op.Metrics)
	e.Get("registry", hpa)
	hpa.Status = autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: 4, DesiredReplicas: 5}
	require.NoError(t, e.Client.Status().Update(t.Context(), hpa))
	quiet(e, op)
	require.Equal(t, before, reconciles(t, op.Metrics))
	require.Empty(t, requests.Requests())

	controltest.Update(e, hpa, func(h *autoscalingv2.HorizontalPodAutoscaler) { h.Spec.MaxReplicas = 50 })
	e.Until("drift is mended", func() bool { e.Get("registry", hpa); return hpa.Spec.MaxReplicas == 10 })
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Autoscaling = nil })
	e.Until("the autoscaler is gone", func() bool {
		return apierrors.IsNotFound(e.Client.Get(t.Context(), client.ObjectKeyFromObject(hpa), hpa))
	})
	require.EqualValues(t, 4, *deployment(e).Spec.Replicas, "as many as there were")
}

func TestAnAutoscalerOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	foreign := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
	foreign.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "other"}
	foreign.Spec.MaxReplicas = 3
	av := appView("registry", onPostgres)
	e.Create(foreign, cnpg(), av)
	e.AppView("registry", "Ready=True")
	controltest.Update(e, av, func(av *v1alpha1.AppView) { scaling(&av.Spec) })
	got := e.AppView("registry", "Ready=False/NotPermitted")
	require.Contains(t, condition(got, "Ready").Message, "HorizontalPodAutoscaler registry")
	e.Get("registry", foreign)
	require.EqualValues(t, 3, foreign.Spec.MaxReplicas)
	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Autoscaling = nil })
	e.AppView("registry", "Ready=True")
	e.Get("registry", foreign)
}
