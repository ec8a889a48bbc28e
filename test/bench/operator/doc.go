// Package operator measures the operator on a real kube-apiserver and etcd, with many AppViews and HoldLinks:
//
//	make bench-operator                  1,000 of each, about four minutes
//	make bench-operator OPERATOR_N=200   another number
//	OPERATOR_PROFILES=folder             and CPU and heap profiles of each part
//
// There is no kubelet: Deployments become available as soon as they change. Holds are servers on loopback. The API
// server, etcd, the operator and the test share the cores, so times say something on a quiet machine only.
//
// Measured on 2026-11-26 with 1,000 of each, two cores that were shared with so much else that 25 to 31 processes wanted
// them: what is counted holds anywhere, times do not.
//
//	                                             goal            measured
//	writes from apply to Ready                   children + 3    13 of 10 + 3, each of 1,000
//	requests per steady reconcile                0               0
//	restart: writes, lists and watches apart     0               0; 5 reads
//	heap with 5,000 foreign Secrets              +0 +- 2 MiB     -0.02 MiB
//	hold outage to HoldsHealthy=False, 1 x 10s   <= 12 s         9.9 s
//	heap per AppView, HoldLink and children      <= 40 KiB       41 KiB: 45.7 less 5.1 that the test itself kept
//	spec change to Deployment updated            20 / 100 ms     26 / 293 ms, p50 / p99
//	restart to idle                              <= 3 s          12.2 s; 1.8 s with 300 of each
//
// Since then lists in the cache are cut to size. With 150 of each, objects in the cache that share words, metrics of a few
// bytes and watches without compression took 14 KiB less than before.
//
// What is left: of the heap, what the objects themselves take, 9 KiB for their structs alone, and 1.5 KiB of events, which
// client-go keeps for six minutes. Of a restart, 3.1 s of the operator's own work in those 12 s, half of it in reconciles;
// the rest it waited for a core.
//
// What it counts is asserted, whatever the number: writes from apply to Ready, none at rest, none after a restart. `make
// test` does that with a few. Times and memory are printed beside their goals and never asserted.
package operator
