package render

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/appview/config/names"
)

// Runtime is the content of the runtime file: what the server takes over without a rollout.
func Runtime(av *v1alpha1.AppView, s Settings, defaultHold string, holds []names.Hold, live *corev1.Service) names.Runtime {
	holds = slices.Clone(holds)
	slices.SortFunc(holds, func(a, b names.Hold) int { return cmp.Compare(a.DID, b.DID) })
	r := names.Runtime{
		Version:        names.RuntimeVersion,
		DefaultHoldDID: defaultHold,
		Holds:          holds,
		AllowedHosts:   AllowedHosts(av, s, live),
	}
	for i, h := range r.Holds {
		if h.CABundle == "" {
			continue
		}
		if r.CABundles == nil {
			r.CABundles = map[string]string{}
		}
		name := ConsumedHash([]byte(h.CABundle)) // most holds have the same authority
		r.CABundles[name], r.Holds[i].CABundle = h.CABundle, name
	}
	for _, c := range av.Spec.Network.AllowedPrivateCIDRs {
		r.AllowedPrivateCIDRs = append(r.AllowedPrivateCIDRs, string(c))
	}
	for _, p := range av.Spec.Network.AllowedPrivatePorts {
		r.AllowedPrivatePorts = append(r.AllowedPrivatePorts, int(p))
	}
	slices.Sort(r.AllowedPrivateCIDRs)
	slices.Sort(r.AllowedPrivatePorts)
	return r
}

// RuntimeConfigMap holds the runtime file. It is mounted as a folder, so that the kubelet updates it in place.
func RuntimeConfigMap(av *v1alpha1.AppView, r names.Runtime) (*corev1ac.ConfigMapApplyConfiguration, error) {
	file, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the runtime file: %w", err)
	}
	return corev1ac.ConfigMap(RuntimeName(av.Name), av.Namespace).
		WithLabels(Labels(av)).
		WithAnnotations(annotations(av, nil)).
		WithOwnerReferences(owner(av)).
		WithData(map[string]string{names.FileRuntime: string(file) + "\n"}), nil
}

// KnownRuntime reads the runtime file back from the ConfigMap as the cluster has it; nil when there is none that can be
// read.
func KnownRuntime(live *corev1.ConfigMap) *names.Runtime {
	r, err := names.ParseRuntime([]byte(live.Data[names.FileRuntime]))
	if err != nil {
		return nil
	}
	return r
}
