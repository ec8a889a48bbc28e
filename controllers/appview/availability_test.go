package appview_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/manager"
)

// budget waits until the AppView's PodDisruptionBudget is there, or is not.
func budget(e *controltest.Env, wanted bool) *policyv1.PodDisruptionBudget {
	e.Helper()
	pdb := &policyv1.PodDisruptionBudget{}
	e.Eventually("a disruption budget, or none", func() error {
		err := e.Client.Get(e.Context(), client.ObjectKey{Namespace: e.Namespace, Name: "registry"}, pdb)
		if wanted || err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		if err == nil {
			return errors.New("it is still there")
		}
		return nil
	})
	return pdb
}

func TestSeveralReplicasKeepApartAndDoNotGoAtOnce(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator()
	e.Kubelet()
	av := appView("registry", onPostgres, func(s *v1alpha1.AppViewSpec) { s.Replicas = new(int32(3)) })
	e.Create(cnpg(), av)
	e.AppView("registry", "Ready=True")
	pdb := budget(e, true)
	require.Equal(t, "1", pdb.Spec.MaxUnavailable.String())
	require.Equal(t, policyv1.AlwaysAllow, *pdb.Spec.UnhealthyPodEvictionPolicy)
	d := deployment(e)
	require.Equal(t, d.Spec.Selector.MatchLabels, pdb.Spec.Selector.MatchLabels)
	var keys []string
	for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
		keys = append(keys, c.TopologyKey)
		require.Equal(t, corev1.ScheduleAnyway, c.WhenUnsatisfiable)
		require.Equal(t, d.Spec.Selector.MatchLabels, c.LabelSelector.MatchLabels)
	}
	require.Equal(t, []string{"kubernetes.io/hostname", "topology.kubernetes.io/zone"}, keys)

	controltest.Update(e, av, func(av *v1alpha1.AppView) { av.Spec.Replicas = new(int32(1)) })
	e.AppView("registry", "Ready=True")
	budget(e, false)
	require.Equal(t, d.Spec.Template, deployment(e).Spec.Template, "scaling replaces no pod")

	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.PodTemplate.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: controltest.Quantity("100m")}
		av.Spec.Autoscaling = &v1alpha1.Autoscaling{Min: 1, Max: 3}
	})
	budget(e, true)
	controltest.Update(e, av, func(av *v1alpha1.AppView) {
		av.Spec.Availability = v1alpha1.Availability{PDB: v1alpha1.AutoSwitchDisabled, TopologySpread: v1alpha1.AutoSwitchDisabled}
	})
	budget(e, false)
	e.AppView("registry", "Ready=True")
	require.Empty(t, deployment(e).Spec.Template.Spec.TopologySpreadConstraints)
}

func TestOneReplicaHasNoBudget(t *testing.T) {
	t.Parallel()
	e, _ := running(t, appView("registry"))
	budget(e, false)
	require.Empty(t, deployment(e).Spec.Template.Spec.TopologySpreadConstraints)
}

// everything is a pod template with each of its fields.
func everything(s *v1alpha1.AppViewSpec) {
	s.PodTemplate = v1alpha1.PodTemplate{
		Metadata:          v1alpha1.Metadata{Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"b": "c"}},
		Resources:         corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: controltest.Quantity("100m")}},
		NodeSelector:      map[string]string{"disk": "ssd"},
		Tolerations:       []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}},
		PriorityClassName: "system-cluster-critical",
		Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 7, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "x", Operator: corev1.NodeSelectorOpExists}}},
		}}}},
		Env: []v1alpha1.EnvVar{{Name: "SSL_CERT_DIR", Value: "/opt/ca"}},
		Volumes: []v1alpha1.Volume{
			{Name: "ca", MountPath: "/opt/ca", ConfigMap: &v1alpha1.LocalReference{Name: "proxy-ca"}},
			{Name: "data", MountPath: "/opt/more", Secret: &v1alpha1.LocalReference{Name: "more"}},
		},
	}
	s.ImagePullSecrets = []v1alpha1.LocalReference{{Name: "pull"}}
	s.InheritedMetadata = v1alpha1.Metadata{Labels: map[string]string{"cost": "7"}, Annotations: map[string]string{"d": "e"}}
}

// The cluster itself judges the pods by the restricted profile, whatever the spec adds to them.
func TestEveryPodIsRestricted(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][]func(*v1alpha1.AppViewSpec){
		"with SQLite and backups": {everything, backups(v1alpha1.Backup{})},
		"without a database":      {everything, onNothing},
		"with PostgreSQL":         {everything, onPostgres, func(s *v1alpha1.AppViewSpec) { s.Replicas = new(int32(2)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := controltest.New(t)
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.Namespace}}
			controltest.Update(e, ns, func(ns *corev1.Namespace) { ns.Labels["pod-security.kubernetes.io/enforce"] = "restricted" })
			e.Operator()
			e.Kubelet()
			e.Create(cnpg(), appView("registry", change...))
			e.AppView("registry", "Ready=True")
			template := deployment(e).Spec.Template
			pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
			pod.Name = "p"
			e.Create(pod)

			require.Equal(t, "a", pod.Labels["team"])
			require.Equal(t, "7", pod.Labels["cost"])
			require.Equal(t, "c", pod.Annotations["b"])
			require.Equal(t, "e", pod.Annotations["d"])
			require.EqualValues(t, 7, pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].Weight)
			require.Equal(t, "ssd", pod.Spec.NodeSelector["disk"])
			require.Equal(t, "system-cluster-critical", pod.Spec.PriorityClassName)
			require.Equal(t, "pull", pod.Spec.ImagePullSecrets[0].Name)
			mounted := map[string]string{}
			for _, m := range pod.Spec.Containers[0].VolumeMounts {
				mounted[m.MountPath] = m.Name
				if m.MountPath == "/opt/ca" || m.MountPath == "/opt/more" {
					require.True(t, m.ReadOnly)
				}
			}
			require.Equal(t, "extra-ca", mounted["/opt/ca"])
			require.Equal(t, "extra-data", mounted["/opt/more"], "beside a volume of ours of that name")
			require.Contains(t, mounted, names.DirSigning)
		})
	}
}

func TestAnOperatorMayRefuseWhatRunsAPodOfTheUsers(t *testing.T) {
	t.Parallel()
	e := controltest.New(t)
	e.Operator(func(_ *rest.Config, o *manager.Options) { o.RestrictPods = true })
	e.Kubelet()
	requests := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: controltest.Quantity("100m")}}
	av := appView("registry", func(s *v1alpha1.AppViewSpec) { s.PodTemplate.Resources = requests })
	e.Create(av)
	e.AppView("registry", "Ready=True")
	before := deployment(e).Spec.Template
	for field, change := range map[string]func(*v1alpha1.AppViewSpec){
		"spec.image":                func(s *v1alpha1.AppViewSpec) { s.Image = "registry.test/miner" },
		"spec.podTemplate.metadata": everything,
		"spec.podTemplate.env":      func(s *v1alpha1.AppViewSpec) { s.PodTemplate.Env = []v1alpha1.EnvVar{{Name: "A", Value: "b"}} },
		"spec.podTemplate.volumes": func(s *v1alpha1.AppViewSpec) {
			s.PodTemplate.Volumes = []v1alpha1.Volume{{Name: "a", MountPath: "/opt/a", Secret: &v1alpha1.LocalReference{Name: "theirs"}}}
		},
	} {
		controltest.Update(e, av, func(av *v1alpha1.AppView) {
			av.Spec.Image, av.Spec.PodTemplate = "", v1alpha1.PodTemplate{Resources: requests}
			change(&av.Spec)
		})
		got := e.AppView("registry", "Ready=False/InvalidSpec", "Accepted=False/InvalidSpec", "Stalled=True")
		require.Contains(t, condition(got, "Accepted").Message, field+" is set, and the operator was started with --restrict-pods")
	}
	require.Equal(t, before, deployment(e).Spec.Template, "what runs goes on")
}
