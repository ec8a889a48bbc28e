// Package controltest runs the operator against a real API server for tests. There is no kubelet and no
// controller-manager: [Kubelet] sets the status that they would.
//
// Every status that the operator writes in a test is held against the rules of kstatus ([conditions.Check]) and against
// the table of conditions on the page of its kind ([Contract]). [Main] fails when that table promises a condition that no
// test has produced.
package controltest
