package render

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
)

// ServerContainer is the server's container in its pods. Others may be put there beside it.
const ServerContainer = "appview"

const (
	serverUser = 65532 // user and group of the image

	// The server drains requests for shutdownGrace; the kubelet waits longer than that before it kills.
	shutdownGrace    = 25 * time.Second
	terminationGrace = 40 * time.Second

	// A pod that is to end serves on for so long: nodes and Ingresses need a moment to learn that it is going. Only where
	// another one takes over; where it must be gone first, it is sent nothing more in any case.
	leaveDelay = 5 * time.Second

	progressDeadline = 5 * time.Minute

	// forgottenMost is how large the database of database.type None may become before the kubelet ends its pod. A server
	// keeps a quarter of it in manifests.
	forgottenMost = "4Gi"

	debugPortName = "debug"
)

// Volumes of the server's pods.
const (
	volumeSigning = "signing"
	volumeOAuth   = "oauth"
	volumeDID     = "did"
	volumeSealing = "sealing"
	volumeRuntime = "runtime"
	volumeData    = "data"
	volumeTmp     = "tmp"
	volumeTLS     = "tls"
)

// Deployment of the server. A PostgreSQL's Secrets are mounted, so that what they hold is in no pod's spec. Its pods are
// replaced when their template changes: an image, a variable, or consumed, the hash of secret bytes that the server reads
// only at start ([ConsumedHash]). Signing keys, the TLS certificate and the runtime file are not among them: the server
// reloads them.
func Deployment(av *v1alpha1.AppView, s Settings, consumed string) *appsv1ac.DeploymentApplyConfiguration {
	return appsv1ac.Deployment(av.Name, av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, map[string]string{v1alpha1.AnnotationImage: s.Image})).
		WithOwnerReferences(owner(av)).
		WithSpec(appsv1ac.DeploymentSpec().
			WithReplicas(s.Replicas).
			WithRevisionHistoryLimit(3).
			WithProgressDeadlineSeconds(int32(progressDeadline.Seconds())).
			WithStrategy(strategy(s)).
			WithSelector(metav1ac.LabelSelector().WithMatchLabels(Selector(av.Name))).
			WithTemplate(podTemplate(av, s, consumed)))
}

// strategy: a SQLite file on a claim has one writer, so the old pod must be gone before the new one opens it. Other pods
// are replaced one after the other, the new one first.
func strategy(s Settings) *appsv1ac.DeploymentStrategyApplyConfiguration {
	if s.SQLite() {
		return appsv1ac.DeploymentStrategy().WithType(appsv1.RecreateDeploymentStrategyType)
	}
	return appsv1ac.DeploymentStrategy().
		WithType(appsv1.RollingUpdateDeploymentStrategyType).
		WithRollingUpdate(appsv1ac.RollingUpdateDeployment().
			WithMaxUnavailable(intstr.FromInt32(0)).
			WithMaxSurge(intstr.FromInt32(1)))
}

// ConsumedHash is the hash of the secret bytes that the server reads at start.
func ConsumedHash(files ...[]byte) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%d:", len(f))
		h.Write(f)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func podTemplate(av *v1alpha1.AppView, s Settings, consumed string) *corev1ac.PodTemplateSpecApplyConfiguration {
	t := av.Spec.PodTemplate
	labels := maps.Clone(t.Metadata.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, Labels(av))
	own := maps.Clone(t.Metadata.Annotations)
	if own == nil {
		own = map[string]string{}
	}
	own[v1alpha1.AnnotationConsumedHash] = consumed

	spec := corev1ac.PodSpec().
		WithServiceAccountName(av.Name).
		WithAutomountServiceAccountToken(false).
		// Service links would put ATCR_* variables into the server's environment for a Service called atcr.
		WithEnableServiceLinks(false).
		WithTerminationGracePeriodSeconds(int64(terminationGrace.Seconds())).
		WithSecurityContext(corev1ac.PodSecurityContext().
			WithRunAsNonRoot(true).
			WithRunAsUser(serverUser).
			WithRunAsGroup(serverUser).
			WithFSGroup(serverUser).
			WithFSGroupChangePolicy(corev1.FSGroupChangeOnRootMismatch).
			WithSeccompProfile(corev1ac.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))).
		WithContainers(container(av, s)).
		WithVolumes(volumes(av, s)...)
	for _, ref := range av.Spec.ImagePullSecrets {
		spec.WithImagePullSecrets(corev1ac.LocalObjectReference().WithName(string(ref.Name)))
	}
	placed(spec, av, s)
	return corev1ac.PodTemplateSpec().
		WithLabels(labels).
		WithAnnotations(annotations(av, own)).
		WithSpec(spec)
}

func container(av *v1alpha1.AppView, s Settings) *corev1ac.ContainerApplyConfiguration {
	get := func(path string) *corev1ac.HTTPGetActionApplyConfiguration {
		return corev1ac.HTTPGetAction().WithPath(path).WithPort(intstr.FromString(debugPortName))
	}
	c := corev1ac.Container().
		WithName(ServerContainer).
		WithImage(s.Image).
		WithArgs("serve").
		WithPorts(
			corev1ac.ContainerPort().WithName(PortName(s)).WithContainerPort(names.PortHTTP).WithProtocol(corev1.ProtocolTCP),
			corev1ac.ContainerPort().WithName(debugPortName).WithContainerPort(names.PortDebug).WithProtocol(corev1.ProtocolTCP)).
		WithEnv(environment(av, s)...).
		WithVolumeMounts(
			corev1ac.VolumeMount().WithName(volumeSigning).WithMountPath(names.DirSigning).WithReadOnly(true),
			corev1ac.VolumeMount().WithName(volumeOAuth).WithMountPath(names.DirOAuth).WithReadOnly(true),
			corev1ac.VolumeMount().WithName(volumeDID).WithMountPath(names.DirDID).WithReadOnly(true),
			corev1ac.VolumeMount().WithName(volumeSealing).WithMountPath(names.DirSealing).WithReadOnly(true),
			corev1ac.VolumeMount().WithName(volumeRuntime).WithMountPath(names.DirRuntime).WithReadOnly(true),
			corev1ac.VolumeMount().WithName(volumeTmp).WithMountPath("/tmp")).
		WithTerminationMessagePath(names.PathTermination).
		WithStartupProbe(corev1ac.Probe().WithHTTPGet(get(names.PathLive)).WithPeriodSeconds(1).WithFailureThreshold(120)).
		WithReadinessProbe(corev1ac.Probe().WithHTTPGet(get(names.PathReady)).WithPeriodSeconds(5).WithTimeoutSeconds(3)).
		WithLivenessProbe(corev1ac.Probe().WithHTTPGet(get(names.PathLive)).WithPeriodSeconds(10).WithTimeoutSeconds(5)).
		WithSecurityContext(corev1ac.SecurityContext().
			WithAllowPrivilegeEscalation(false).
			WithReadOnlyRootFilesystem(true).
			WithRunAsNonRoot(true).
			WithCapabilities(corev1ac.Capabilities().WithDrop("ALL")))
	if s.PostgreSQL() {
		c.WithVolumeMounts(databaseMounts(av.Spec.Database.PostgreSQL)...)
	} else {
		c.WithVolumeMounts(corev1ac.VolumeMount().WithName(volumeData).WithMountPath(names.DirData))
	}
	if !s.SQLite() {
		c.WithLifecycle(corev1ac.Lifecycle().WithPreStop(corev1ac.LifecycleHandler().
			WithSleep(corev1ac.SleepAction().WithSeconds(int64(leaveDelay.Seconds())))))
	}
	if s.TLSSecret != "" {
		c.WithVolumeMounts(corev1ac.VolumeMount().WithName(volumeTLS).WithMountPath(names.DirTLS).WithReadOnly(true))
	}
	if s.Backup.made() && s.Backup.ClaimName != "" {
		c.WithVolumeMounts(corev1ac.VolumeMount().WithName(volumeBackup).WithMountPath(names.DirBackup))
	}
	for _, v := range av.Spec.PodTemplate.Volumes {
		c.WithVolumeMounts(corev1ac.VolumeMount().WithName(extraVolume + v.Name).WithMountPath(v.MountPath).WithReadOnly(true))
	}
	if r := av.Spec.PodTemplate.Resources; len(r.Requests)+len(r.Limits) > 0 {
		resources := corev1ac.ResourceRequirements()
		if len(r.Requests) > 0 {
			resources.WithRequests(r.Requests)
		}
		if len(r.Limits) > 0 {
			resources.WithLimits(r.Limits)
		}
		c.WithResources(resources)
	}
	return c
}

func environment(av *v1alpha1.AppView, s Settings) []*corev1ac.EnvVarApplyConfiguration {
	var env []*corev1ac.EnvVarApplyConfiguration
	set := func(name, value string) {
		if value != "" {
			env = append(env, corev1ac.EnvVar().WithName(name).WithValue(value))
		}
	}
	set(names.HTTPAddr, fmt.Sprintf(":%d", names.PortHTTP))
	set(names.DebugAddr, fmt.Sprintf(":%d", names.PortDebug))
	set(names.BaseURL, s.BaseURL)
	set(names.ServiceName, s.ServiceName)
	set(names.AuthKeyPath, names.DirSigning+"/"+names.FileSigningKey)
	set(names.AuthCertPath, names.DirSigning+"/"+names.FileSigningCert)
	set(names.OAuthKeyPath, names.DirOAuth+"/"+names.FileOAuthKey)
	set(names.DIDKeyPath, names.DirDID+"/"+names.FileDIDKey)
	set(names.SealingKeyPath, names.DirSealing+"/"+names.FileSealingKey)
	set(names.AuthKeyRequired, "true")
	set(names.TokenExpiration, strconv.Itoa(int(s.TokenExpiration.Seconds())))
	if s.PostgreSQL() {
		databaseEnvironment(av.Spec.Database.PostgreSQL, set)
	} else {
		set(names.UIDatabasePath, names.DirData+"/ui.db")
	}
	if s.Database == v1alpha1.DatabaseNone {
		set(names.RefreshTokens, "false") // they would go with the pod, and clients have no password then to log in again
	}
	if s.TLSSecret != "" {
		set(names.TLSCertPath, names.DirTLS+"/"+corev1.TLSCertKey)
		set(names.TLSKeyPath, names.DirTLS+"/"+corev1.TLSPrivateKeyKey)
	}
	if s.Backup.made() {
		s.Backup.environment(set)
	}
	set(names.TerminationLog, names.PathTermination)
	set(names.RuntimeFile, names.DirRuntime+"/"+names.FileRuntime)
	set(names.LogLevel, s.LogLevel)
	set(names.LogFormatter, s.LogFormat)
	set(names.AccessLog, av.Spec.Logging.Access)
	set(names.PLCURL, string(av.Spec.Identity.PLCURL))
	set(names.HandleResolverURL, string(av.Spec.Identity.HandleResolverURL))
	set(names.ShutdownGrace, shutdownGrace.String())
	if s.Development {
		set(names.TestMode, "true")
	}
	extra := slices.Clone(av.Spec.PodTemplate.Env)
	slices.SortFunc(extra, func(a, b v1alpha1.EnvVar) int { return cmp.Compare(a.Name, b.Name) })
	for _, e := range extra {
		// A doubled dollar keeps the kubelet from expanding $(NAME).
		env = append(env, corev1ac.EnvVar().WithName(e.Name).WithValue(escapeDollar(e.Value)))
	}
	return env
}

func escapeDollar(s string) string {
	var out []byte
	for i := range len(s) {
		if s[i] == '$' {
			out = append(out, '$')
		}
		out = append(out, s[i])
	}
	return string(out)
}

func volumes(av *v1alpha1.AppView, s Settings) []*corev1ac.VolumeApplyConfiguration {
	secret := func(volume, name string, files ...string) *corev1ac.VolumeApplyConfiguration {
		// Readable for the server's group only; the files are named so that nothing else in the Secret is mounted.
		v := corev1ac.SecretVolumeSource().WithSecretName(name).WithDefaultMode(0o440)
		for _, f := range files {
			v.WithItems(corev1ac.KeyToPath().WithKey(f).WithPath(f))
		}
		return corev1ac.Volume().WithName(volume).WithSecret(v)
	}
	out := []*corev1ac.VolumeApplyConfiguration{
		secret(volumeSigning, SigningSecretName(av.Name), names.FileSigningKey, names.FileSigningCert, names.FileJWKS),
		secret(volumeOAuth, OAuthSecretName(av.Name), names.FileOAuthKey),
		secret(volumeDID, DIDSecretName(av.Name), names.FileDIDKey),
		secret(volumeSealing, SealingSecretName(av.Name), names.FileSealingKey),
		corev1ac.Volume().WithName(volumeRuntime).WithConfigMap(corev1ac.ConfigMapVolumeSource().
			WithName(RuntimeName(av.Name)).
			WithDefaultMode(0o444).
			WithItems(corev1ac.KeyToPath().WithKey(names.FileRuntime).WithPath(names.FileRuntime))),
		corev1ac.Volume().WithName(volumeTmp).WithEmptyDir(corev1ac.EmptyDirVolumeSource()),
	}
	if s.TLSSecret != "" {
		out = append(out, secret(volumeTLS, s.TLSSecret, corev1.TLSCertKey, corev1.TLSPrivateKeyKey))
	}
	out = append(out, extraVolumes(av)...)
	switch data := corev1ac.Volume().WithName(volumeData); {
	case s.PostgreSQL():
		out = append(out, databaseVolumes(av.Spec.Database.PostgreSQL, s)...)
	case s.SQLite():
		out = append(out, data.WithPersistentVolumeClaim(corev1ac.PersistentVolumeClaimVolumeSource().WithClaimName(s.ClaimName)))
	default:
		out = append(out, data.WithEmptyDir(corev1ac.EmptyDirVolumeSource().WithSizeLimit(resource.MustParse(forgottenMost))))
	}
	if s.Backup.made() && s.Backup.ClaimName != "" {
		out = append(out, s.Backup.volume())
	}
	return out
}
