// Package probe asks holds whether they are well. It runs on the leader only: a heap of due times, a bounded number of
// requests in flight that namespaces share fairly, and an event to the HoldLink controller when a hold's state changes, or
// every ten minutes. What is finer than that is a metric. So a thousand holds asked once a minute cost the API server
// nothing while they are well.
//
//   - tracker.go: pure: results in, state out
//   - check.go: one request and the class of its failure
//   - prober.go: the schedule; queue.go: its heap
//   - lanes.go: pure: who is asked when not all can be
package probe
