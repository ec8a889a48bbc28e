// Package operator measures the operator on a real kube-apiserver and etcd, with many AppViews and HoldLinks:
//
//	make bench-operator                  1,000 of each, about four minutes
//	make bench-operator OPERATOR_N=200   another number
//	OPERATOR_PROFILES=folder             and CPU and heap profiles of each part
//
// There is no kubelet: Deployments become available as soon as they change. Holds are servers on loopback. The API
// server, etcd, the operator and the test share the cores, so times say something on a quiet machine only.
//
// Measured on 2026-11-26 with 1,000 of each, on two cores for which 20 to 25 other processes waited; with a higher priority
// than theirs from the third line on. What is counted holds anywhere, times do not.
//
//	                                             goal            measured
//	writes from apply to Ready                   children + 3    13, for each of 1,000
//	heap per AppView, HoldLink and children      <= 40 KiB       42.7 KiB
//	requests per steady reconcile                0               0
//	spec change to Deployment updated, p50/p99   20 / 100 ms     23 / 143 ms
//	restart to idle                              <= 3 s          4.5 s, 0 writes, 16 reads
//	heap with 5,000 foreign Secrets              +0 +- 2 MiB     -0.06 MiB
//	hold outage to HoldsHealthy=False, 1 x 10s   <= 12 s         9.7 s
//
// What is left: of the heap, what the objects themselves take, 9 KiB for their structs alone, and 1.5 KiB of events, which
// client-go keeps for six minutes. Of a restart, about 3 s of the operator's own work on whatever cores there are, half of
// it in reconciles.
//
// What it counts is asserted, whatever the number: writes from apply to Ready, none at rest, none after a restart. `make
// test` does that with a few. Times and memory are printed beside their goals and never asserted.
package operator
