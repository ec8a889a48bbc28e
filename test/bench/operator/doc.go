// Package operator measures the operator on a real kube-apiserver and etcd, with many AppViews and HoldLinks:
//
//	make bench-operator                  1,000 of each, about four minutes
//	make bench-operator OPERATOR_N=200   another number
//	OPERATOR_PROFILES=folder             and CPU and heap profiles of each part
//
// There is no kubelet: Deployments become available as soon as they change. Holds are servers on loopback. The API
// server, etcd, the operator and the test share the cores, so times say something on a quiet machine only.
//
// Measured on 2026-11-26 with 1,000 of each, on two cores for which 30 other processes waited. What is counted holds
// anywhere, and CPU time and memory nearly so; times do not: with nothing else on the machine, the version before took 2.7 s
// for a restart and 33 ms for a spec change.
//
//	                                             goal            measured
//	writes from apply to Ready                   children + 3    13, for each of 1,000
//	heap per AppView, HoldLink and children      <= 40 KiB       39.4 KiB
//	requests per steady reconcile                0               0
//	spec change to Deployment updated, p50/p99   20 / 100 ms     38 / 291 ms
//	  of it the API server's, p50                                37 ms: 19 for the AppView, 18 for the Deployment
//	restart to idle                              <= 3 s          5.5 s, 0 writes, 16 reads
//	heap with 5,000 foreign Secrets              +0 +- 2 MiB     -0.01 MiB
//	hold outage to HoldsHealthy=False, 1 x 10s   <= 12 s         9.8 s
//	writes for a HoldLink and its AppView                        4: two of its status, the runtime file, one of the AppView's status
//	CPU of an AppView, to all children there                     API server and etcd 81 ms, operator and test 28 ms
//	CPU of a HoldLink, to healthy                                API server and etcd 57 ms, operator and test 18 ms
//
// What is left: of the heap, what the objects themselves take, 9 KiB for their structs alone, and 1.5 KiB of events, which
// client-go keeps for six minutes. Of a burst and of a spec change, what the API server and etcd do for each write on the
// same two cores, most of it in server-side apply.
//
// What it counts is asserted, whatever the number: writes from apply to Ready, none at rest, none after a restart. `make
// test` does that with a few. Times and memory are printed beside their goals and never asserted.
package operator
