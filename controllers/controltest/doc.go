// Package controltest runs the operator against a real API server for tests. There is no kubelet and no
// controller-manager: [Kubelet] sets the status that they would.
//
// Every status that the operator writes in a test is held against the rules of kstatus ([conditions.Check]).
package controltest
