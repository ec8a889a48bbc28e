// Package operator measures the operator on a real kube-apiserver and etcd, with many AppViews and HoldLinks:
//
//	make bench-operator                  1,000 of each, about four minutes
//	make bench-operator OPERATOR_N=200   another number
//	OPERATOR_PROFILES=folder             and CPU and heap profiles of each part
//
// There is no kubelet: Deployments become available as soon as they change. Holds are servers on loopback. The API
// server, etcd, the operator and the test share the cores, so times say something on a quiet machine only.
//
// What it counts is asserted, whatever the number: writes from apply to Ready, none at rest, none after a restart. `make
// test` does that with a few. Times and memory are printed beside their goals and never asserted.
package operator
