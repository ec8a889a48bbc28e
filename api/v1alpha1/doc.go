// Package v1alpha1 is the Kubernetes API of ATCR: an AppView is a registry server, a HoldLink attaches a hold to it.
//
// Start at [AppViewSpec] and [HoldLinkSpec]; every condition type and reason is a constant in conditions.go. The pages
// appview.md and holdlink.md beside this file say the same for users; appview-fields.md and holdlink-fields.md list every
// field, and are generated.
//
// House rules: an enumeration instead of a bool, a limit on every string and list, `listType` on every list, durations
// as strings, defaults in code and echoed in status. A rule that one object can be checked by is CEL here and again in
// the reconciler ([ValidateAppView], [ValidateHoldLink]), since an object may be older than the rule.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package="applyconfiguration"
// +groupName=operator.atcr.io
package v1alpha1
