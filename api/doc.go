// Package api holds the Kubernetes API of the operator, group operator.atcr.io. Start at v1alpha1: AppView is a
// registry server, HoldLink attaches a hold to it.
package api
