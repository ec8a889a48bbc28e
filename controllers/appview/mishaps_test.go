package appview_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
	"atcr.io/operator/controllers/controltest"
	"atcr.io/operator/controllers/internal/optional"
	"atcr.io/operator/controllers/keyset"
	"atcr.io/operator/controllers/manager"
)

// mishaps by what goes wrong.
func mishaps(t *testing.T) map[string]*mishap {
	t.Helper()
	mine, _ := pair(t, "mine")
	another, _ := pair(t, "another")
	ofRSA, _ := pairOf(t, "mine", keyset.RS256)
	return map[string]*mishap{
		"a spec that the CRD cannot refuse": {
			happens: changed(func(s *v1alpha1.AppViewSpec) { s.PodTemplate.Metadata.Labels = map[string]string{"not a label": "x"} }),
			mends:   changed(func(s *v1alpha1.AppViewSpec) { s.PodTemplate.Metadata.Labels = nil }),
			want:    "Accepted=False/InvalidSpec", says: []string{"spec.podTemplate.metadata.labels"}, still: true,
		},
		"a node port that another Service has": {
			around: func(s *stage) {
				s.Create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, Spec: corev1.ServiceSpec{
					Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}}}})
			},
			happens: func(s *stage) {
				theirs := &corev1.Service{}
				s.Get("theirs", theirs)
				s.change(func(spec *v1alpha1.AppViewSpec) {
					spec.Exposure.Service = v1alpha1.Service{Type: corev1.ServiceTypeNodePort, NodePort: theirs.Spec.Ports[0].NodePort}
				})
			},
			mends: changed(func(s *v1alpha1.AppViewSpec) { s.Exposure.Service = v1alpha1.Service{} }),
			want:  "Accepted=False/InvalidSpec", says: []string{"Service registry", "nodePort", "already allocated"},
		},
		"a signing key that is not there": {
			happens: changed(signedBy("mine")),
			mends:   func(s *stage) { s.Create(mine.DeepCopy()) },
			want:    "KeysReady=False/SecretNotFound", says: []string{"spec.keys.signing.secretRef", "Secret mine", "create it"},
		},
		"a signing key that goes away": {
			around:  func(s *stage) { s.Create(mine.DeepCopy()) },
			spec:    signedBy("mine"),
			happens: func(s *stage) { s.remove("mine") },
			mends:   func(s *stage) { s.Create(mine.DeepCopy()) },
			want:    "KeysReady=False/SecretNotFound", says: []string{"spec.keys.signing.secretRef", "Secret mine", "create it"},
		},
		"a signing key that is none": {
			around: func(s *stage) { s.Create(mine.DeepCopy()) },
			spec:   signedBy("mine"),
			happens: func(s *stage) {
				s.fill("mine", map[string][]byte{"tls.key": []byte("s3cret"), "tls.crt": mine.Data["tls.crt"]})
			},
			mends: func(s *stage) { s.fill("mine", mine.Data) },
			want:  "KeysReady=False/KeyInvalid", says: []string{"Secret mine, entry tls.key", "EC P-256 or RSA"},
		},
		"a signing key with another one's certificate": {
			around: func(s *stage) { s.Create(mine.DeepCopy()) },
			spec:   signedBy("mine"),
			happens: func(s *stage) {
				s.fill("mine", map[string][]byte{"tls.key": another.Data["tls.key"], "tls.crt": mine.Data["tls.crt"]})
			},
			mends: func(s *stage) { s.fill("mine", mine.Data) },
			want:  "KeysReady=False/KeyMismatch", says: []string{"Secret mine", "another key than tls.key"},
		},
		"a signing key whose certificate has expired": {
			around:  func(s *stage) { s.Create(mine.DeepCopy()) },
			spec:    signedBy("mine"),
			happens: func(s *stage) { s.fill("mine", certified(t, time.Now().Add(-time.Hour))) },
			mends:   func(s *stage) { s.fill("mine", mine.Data) },
			want:    "KeysReady=False/Expired", says: []string{"Secret mine", "renew it"},
		},
		"an OAuth key of RSA": {
			around: func(s *stage) { s.Create(ofRSA.DeepCopy()) },
			happens: changed(func(s *v1alpha1.AppViewSpec) {
				s.Keys.OAuthClient = v1alpha1.OAuthClientKey{Source: v1alpha1.KeySecretRef, SecretRef: &v1alpha1.KeySecretReference{Name: "mine"}}
			}),
			mends: changed(func(s *v1alpha1.AppViewSpec) { s.Keys.OAuthClient = v1alpha1.OAuthClientKey{} }),
			want:  "KeysReady=False/KeyInvalid", says: []string{"Secret mine", "must be EC P-256"},
		},
		"an OAuth key that is not there": {
			happens: changed(func(s *v1alpha1.AppViewSpec) {
				s.Keys.OAuthClient = v1alpha1.OAuthClientKey{Source: v1alpha1.KeySecretRef, SecretRef: &v1alpha1.KeySecretReference{Name: "nowhere"}}
			}),
			mends: changed(func(s *v1alpha1.AppViewSpec) { s.Keys.OAuthClient = v1alpha1.OAuthClientKey{} }),
			want:  "KeysReady=False/SecretNotFound", says: []string{"spec.keys.oauthClient.secretRef", "Secret nowhere", "create it"},
		},
		"a sealing key that somebody spoiled": {
			happens: func(s *stage) { s.fill("registry-sealing", map[string][]byte{names.FileSealingKey: []byte("s3cret")}) },
			want:    "KeysReady=False/KeyInvalid", says: []string{"Secret registry-sealing", "Restore it, or delete it"},
		},
		"a Certificate of somebody else": {
			around: func(s *stage) {
				s.Install(optional.Certificate)
				theirs := optional.Certificate.New()
				theirs.SetName("registry-signing-source")
				theirs.SetNamespace(s.Namespace)
				theirs.Object["spec"] = map[string]any{"secretName": "theirs", "issuerRef": map[string]any{"name": "ca"}}
				require.NoError(t, s.Client.Create(t.Context(), theirs))
			},
			happens: changed(byCertManager),
			mends:   changed(func(s *v1alpha1.AppViewSpec) { s.Keys.Signing = v1alpha1.SigningKey{} }),
			want:    "KeysReady=False/NotPermitted", says: []string{"Certificate registry-signing-source", "belongs to somebody else"},
		},
		"a claim that is not there": {
			happens: changed(func(s *v1alpha1.AppViewSpec) { s.Database.SQLite.ExistingClaim = "nowhere" }),
			mends:   changed(func(s *v1alpha1.AppViewSpec) { s.Database.SQLite.ExistingClaim = "" }),
			want:    "DatabaseReady=False/ClaimNotFound", says: []string{"spec.database.sqlite.existingClaim", "nowhere", "create it"},
		},
		"a claim whose volume is gone": {
			happens: func(s *stage) {
				claim := &corev1.PersistentVolumeClaim{}
				s.Get("registry-data", claim)
				claim.Status.Phase = corev1.ClaimLost
				require.NoError(t, s.Client.Status().Update(t.Context(), claim))
			},
			mends: func(s *stage) { bind(s.Env) },
			want:  "DatabaseReady=False/ClaimLost", says: []string{"PersistentVolumeClaim registry-data", "restore the volume"},
		},
		"a claim that cannot grow": {
			happens: changed(func(s *v1alpha1.AppViewSpec) { q := controltest.Quantity("2Gi"); s.Database.SQLite.Size = &q }),
			mends:   changed(func(s *v1alpha1.AppViewSpec) { s.Database.SQLite.Size = nil }),
			want:    "DatabaseReady=False/NotPermitted", says: []string{"PersistentVolumeClaim registry-data", "spec.database.sqlite.size"},
		},
		"a PostgreSQL of which nothing is known": {
			happens: changed(onPostgres),
			mends:   func(s *stage) { s.Create(cnpg()) },
			want:    "DatabaseReady=False/CredentialsNotFound", says: []string{"spec.database.postgresql.secretRef", "Secret pg-app", "create it"},
		},
		"a PostgreSQL that is another database": {
			around:  func(s *stage) { s.Create(cnpg()) },
			spec:    onPostgres,
			happens: func(s *stage) { s.fill("pg-app", map[string][]byte{"uri": []byte("mysql://u:s3cret@h/d")}) },
			mends: func(s *stage) {
				s.fill("pg-app", map[string][]byte{"uri": []byte("postgresql://app:s3cret@pg-rw.db:5432/app")})
			},
			want: "DatabaseReady=False/CredentialsInvalid", says: []string{"Secret pg-app, entry uri", "postgres://"},
		},
		"a PostgreSQL that cannot be reached": {
			around:  func(s *stage) { s.Create(cnpg()) },
			spec:    onPostgres,
			happens: func(s *stage) { s.unready(names.Ready{Status: names.StatusNoDatabase}) },
			mends:   func(s *stage) { s.removePods(); status(s.Env, controltest.Run) },
			want:    "DatabaseReady=False/ConnectionFailed", too: []string{"Available"}, waits: true,
			says: []string{"Secret pg-app", "check that it runs"},
		},
		"a server that cannot start with its database": {
			happens: func(s *stage) {
				pod := s.Pod(deployment(s.Env), "CrashLoopBackOff")
				word, err := json.Marshal(names.Termination{Reason: names.EndedSchemaTooNew, Have: 9, Known: 6})
				require.NoError(t, err)
				pod.Status.ContainerStatuses[0].LastTerminationState.Terminated.Message = string(word)
				require.NoError(t, s.Client.Status().Update(t.Context(), pod))
				status(s.Env, down)
			},
			mends: func(s *stage) { s.removePods(); status(s.Env, controltest.Run) },
			want:  "DatabaseReady=False/SchemaTooNew", too: []string{"Available"}, waits: true, says: []string{"restore a backup"},
		},
		"an image that cannot be pulled any more": {
			happens: func(s *stage) { s.Pod(deployment(s.Env), "ImagePullBackOff"); status(s.Env, down) },
			mends:   func(s *stage) { s.removePods(); status(s.Env, controltest.Run) },
			want:    "Available=False/ImagePullFailed", waits: true, says: []string{controltest.Image, "spec.image", "spec.imagePullSecrets"},
		},
		"a pod that no node takes": {
			happens: func(s *stage) {
				p := s.Serving(deployment(s.Env), "10.1.2.4")
				p.Status = corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
					Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
					Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes are available: 3 Insufficient memory."}}}
				require.NoError(t, s.Client.Status().Update(t.Context(), p))
				status(s.Env, down)
			},
			mends: func(s *stage) { s.removePods(); status(s.Env, controltest.Run) },
			want:  "Available=False/Unschedulable", waits: true, says: []string{"no node takes pod", "Insufficient memory"},
		},
		"a quota that leaves no room for the pod": {
			happens: func(s *stage) {
				status(s.Env, func(d *appsv1.Deployment) {
					down(d)
					d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue,
						Reason: "FailedCreate", Message: "pods is forbidden: exceeded quota: small"}}
				})
			},
			mends: func(s *stage) { status(s.Env, controltest.Run) },
			want:  "Available=False/PodsRefused", waits: true, says: []string{"refuses to create the pod", "exceeded quota"},
		},
		"a default hold that is not there": {
			happens: changed(func(s *v1alpha1.AppViewSpec) {
				s.DefaultHold = &v1alpha1.DefaultHold{HoldLinkRef: &v1alpha1.HoldLinkReference{Name: "nowhere"}}
			}),
			mends: changed(func(s *v1alpha1.AppViewSpec) { s.DefaultHold = &v1alpha1.DefaultHold{DID: anotherDID} }),
			want:  "DefaultHoldResolved=False/NoHold", waits: true, says: []string{"spec.defaultHold.holdLinkRef", "nowhere", "create it"},
		},
		"a default hold from a namespace without consent": {
			around: func(s *stage) {
				s.other = s.OtherNamespace(nil)
				s.options = append(s.options, func(_ *rest.Config, o *manager.Options) { o.Namespaces = append(o.Namespaces, s.other) })
				link := &v1alpha1.HoldLink{ObjectMeta: metav1.ObjectMeta{Name: "foreign", Namespace: s.other}}
				link.Spec.AppViewRef = v1alpha1.AppViewReference{Name: "registry", Namespace: v1alpha1.NamespaceName(s.Namespace)}
				link.Spec.Hold.DID, link.Spec.Endpoint = "did:web:127.0.0.1%3A1", "http://127.0.0.1:1"
				s.Create(link)
			},
			happens: func(s *stage) {
				s.change(func(spec *v1alpha1.AppViewSpec) {
					spec.DefaultHold = &v1alpha1.DefaultHold{HoldLinkRef: &v1alpha1.HoldLinkReference{Name: "foreign", Namespace: v1alpha1.NamespaceName(s.other)}}
				})
			},
			mends: changed(func(s *v1alpha1.AppViewSpec) { s.HoldLinks.AllowedNamespaces.From = v1alpha1.FromAll }),
			want:  "DefaultHoldResolved=False/NotPermitted", waits: true, says: []string{"spec.defaultHold.holdLinkRef", "/foreign", "spec.holdLinks.allowedNamespaces"},
		},
		"a route that the API server refuses": {
			around: func(s *stage) { s.Install(optional.HTTPRoute) },
			spec:   func(s *v1alpha1.AppViewSpec) { s.BaseURL = "https://registry.example.com" },
			happens: changed(func(s *v1alpha1.AppViewSpec) {
				byGateway(s)
				s.Exposure.Gateway.ParentRefs = []v1alpha1.ParentReference{{Name: "edge"}, {Name: "edge"}} // twice the same
			}),
			mends: changed(func(s *v1alpha1.AppViewSpec) { s.Exposure.Gateway = nil }),
			want:  "Exposed=False/InvalidSpec", says: []string{"HTTPRoute registry", "parentRefs"},
		},
		"an Ingress of somebody else": {
			around: func(s *stage) {
				theirs := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
				theirs.Spec.DefaultBackend = &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
					Name: "theirs", Port: networkingv1.ServiceBackendPort{Number: 80}}}
				s.Create(theirs)
			},
			spec:    func(s *v1alpha1.AppViewSpec) { s.BaseURL = "https://registry.example.com" },
			happens: changed(byIngress),
			mends:   changed(func(s *v1alpha1.AppViewSpec) { s.Exposure.Ingress = nil }),
			want:    "Exposed=False/NotPermitted", says: []string{"Ingress registry", "belongs to somebody else"},
		},
		"a network policy of somebody else": {
			around: func(s *stage) {
				s.Create(&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "registry"}})
			},
			happens: changed(byPolicy),
			mends:   changed(func(s *v1alpha1.AppViewSpec) { s.NetworkPolicy.Mode = v1alpha1.Disabled }),
			want:    "Accepted=False/NotPermitted", says: []string{"NetworkPolicy registry", "belongs to somebody else"},
		},
		"a network policy that the API server refuses": {
			happens: changed(func(s *v1alpha1.AppViewSpec) {
				byPolicy(s)
				s.NetworkPolicy.ExtraEgress = []networkingv1.NetworkPolicyEgressRule{{To: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "everywhere"}}}}}
			}),
			mends: changed(func(s *v1alpha1.AppViewSpec) { s.NetworkPolicy.ExtraEgress = nil }),
			want:  "Accepted=False/InvalidSpec", says: []string{"NetworkPolicy registry", "everywhere"},
		},
		"a network policy that the operator may not write": forbidden("networkpolicies", nil, byPolicy, "Accepted", "NetworkPolicy registry", "spec.networkPolicy"),
		"an autoscaler of somebody else": {
			around: func(s *stage) {
				s.Create(cnpg())
				theirs := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "registry"}}
				theirs.Spec.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "theirs"}
				theirs.Spec.MaxReplicas = 3
				s.Create(theirs)
			},
			spec:    scalable,
			happens: changed(scaling),
			mends:   changed(func(s *v1alpha1.AppViewSpec) { s.Autoscaling = nil }),
			want:    "Accepted=False/NotPermitted", says: []string{"HorizontalPodAutoscaler registry", "belongs to somebody else"},
		},
		"an autoscaler that the operator may not write": forbidden("horizontalpodautoscalers", scalable, scaling, "Accepted", "HorizontalPodAutoscaler registry", "spec.autoscaling"),
		"a budget of somebody else": {
			around: func(s *stage) {
				s.Create(cnpg(), &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "registry"}})
			},
			spec:    unbudgeted,
			happens: changed(budgeted),
			mends:   changed(unbudgeted),
			want:    "Accepted=False/NotPermitted", says: []string{"PodDisruptionBudget registry", "belongs to somebody else"},
		},
		"a budget that the operator may not write": forbidden("poddisruptionbudgets", unbudgeted, budgeted, "Accepted", "PodDisruptionBudget registry", "spec.availability"),
		"an Ingress that the operator may not write": forbidden("ingresses", func(s *v1alpha1.AppViewSpec) { s.BaseURL = "https://registry.example.com" },
			byIngress, "Exposed", "Ingress registry", "spec.exposure"),
		"a Service account of somebody else": {
			happens: func(s *stage) {
				account := &corev1.ServiceAccount{}
				s.Get("registry", account)
				controltest.Update(s.Env, account, func(a *corev1.ServiceAccount) { a.OwnerReferences, a.Labels = nil, nil })
			},
			mends: func(s *stage) {
				require.NoError(t, s.Client.Delete(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: s.Namespace}}))
				controltest.Annotate(s.Env, s.av, v1alpha1.AnnotationReconcile, "now") // what is not the operator's is not watched
			},
			want: "Accepted=False/NotPermitted", says: []string{"ServiceAccount registry", "belongs to somebody else"},
		},
		"a sealing key of somebody else": {
			happens: func(s *stage) {
				secret := &corev1.Secret{}
				s.Get("registry-sealing", secret)
				controltest.Update(s.Env, secret, func(o *corev1.Secret) { o.Labels[v1alpha1.LabelAppView] = "theirs" })
				controltest.Annotate(s.Env, s.av, v1alpha1.AnnotationReconcile, "now")
			},
			mends: func(s *stage) {
				secret := &corev1.Secret{}
				s.Get("registry-sealing", secret)
				controltest.Update(s.Env, secret, func(o *corev1.Secret) { o.Labels[v1alpha1.LabelAppView] = "registry" })
			},
			want: "KeysReady=False/SecretNotOwned", says: []string{"Secret registry-sealing", "belongs to somebody else"},
		},
	}
}

// forbidden is that the operator may not write objects of a kind that change asks for.
func forbidden(plural string, spec, change func(*v1alpha1.AppViewSpec), condition string, says ...string) *mishap {
	fault := &controltest.Fault{Method: http.MethodPatch, Path: "/" + plural + "/", Status: http.StatusForbidden}
	return &mishap{
		around:  func(s *stage) { s.Create(cnpg()); s.options = append(s.options, controltest.With(fault)) },
		spec:    spec,
		happens: changed(change),
		mends:   func(s *stage) { fault.Off(); controltest.Annotate(s.Env, s.av, v1alpha1.AnnotationReconcile, "now") },
		want:    condition + "=False/NotPermitted", says: append(says, "the operator's role", "config/rbac/README.md"),
	}
}

func byPolicy(s *v1alpha1.AppViewSpec) { s.NetworkPolicy.Mode = v1alpha1.Enabled }

// scalable is what an autoscaler needs.
func scalable(s *v1alpha1.AppViewSpec) { onPostgres(s); scaling(s); s.Autoscaling = nil }

func unbudgeted(s *v1alpha1.AppViewSpec) {
	onPostgres(s)
	s.Replicas, s.Availability.PDB = new(int32(2)), v1alpha1.AutoSwitchDisabled
}

func budgeted(s *v1alpha1.AppViewSpec) { s.Availability.PDB = v1alpha1.AutoSwitchAuto }

func signedBy(secret string) func(*v1alpha1.AppViewSpec) {
	return func(s *v1alpha1.AppViewSpec) {
		s.Keys.Signing = v1alpha1.SigningKey{Source: v1alpha1.KeySecretRef, SecretRef: &v1alpha1.KeySecretReference{Name: v1alpha1.ObjectName(secret)}}
	}
}

// down is a Deployment whose pod does not run any more.
func down(d *appsv1.Deployment) {
	controltest.Run(d)
	d.Status.ReadyReplicas, d.Status.AvailableReplicas, d.Status.UnavailableReplicas = 0, 0, 1
}

// fill puts data into a Secret.
func (s *stage) fill(secret string, data map[string][]byte) {
	s.Helper()
	o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret, Namespace: s.Namespace}}
	controltest.Update(s.Env, o, func(o *corev1.Secret) { maps.Copy(o.Data, data) })
}

// remove deletes a Secret.
func (s *stage) remove(secret string) {
	s.Helper()
	require.NoError(s, s.Client.Delete(s.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret, Namespace: s.Namespace}}))
}

// removePods deletes the pods that a mishap has made.
func (s *stage) removePods() {
	s.Helper()
	var pods corev1.PodList
	require.NoError(s, s.Client.List(s.Context(), &pods, client.InNamespace(s.Namespace)))
	for i := range pods.Items {
		require.NoError(s, s.Client.Delete(s.Context(), &pods.Items[i]))
	}
}

// unready makes the server's pod one that is not ready, and that answers so.
func (s *stage) unready(answer names.Ready) {
	s.Helper()
	s.servers.Answer("10.1.2.3", answer)
	pod := s.Serving(deployment(s.Env), "10.1.2.3")
	pod.Status.Conditions[0].Status = corev1.ConditionFalse
	require.NoError(s, s.Client.Status().Update(s.Context(), pod))
	status(s.Env, down)
}

// certified is a new key and its certificate, which ends then, as entries of a Secret.
func certified(t *testing.T, end time.Time) map[string][]byte {
	t.Helper()
	return certifiedFor(t, 90*24*time.Hour, end)
}

func certifiedFor(t *testing.T, life time.Duration, end time.Time) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: end.Add(-life), NotAfter: end}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return map[string][]byte{
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
	}
}
