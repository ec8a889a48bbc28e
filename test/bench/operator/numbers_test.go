package operator

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

type durations []time.Duration

// quantile is the smallest duration that that part of all does not exceed.
func (d durations) quantile(part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)].Round(100 * time.Microsecond)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// kinds sums up requests by what they are about.
func kinds(requests []string) string {
	counts := map[string]int{}
	for _, r := range requests {
		method, path, _ := strings.Cut(r, " ")
		parts := strings.Split(path, "/")
		i := slices.Index(parts, "namespaces")
		if i < 0 || i+2 >= len(parts) {
			counts[r]++
			continue
		}
		what := method + " " + parts[i+2]
		if i+4 < len(parts) {
			what += "/" + parts[i+4] // a subresource
		}
		counts[what]++
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%d %s", counts[k], k))
	}
	return strings.Join(out, ", ")
}

// part runs a part of the benchmark, and writes its profiles to the folder that OPERATOR_PROFILES names: NAME.cpu, and
// NAME.heap, which is what is live when it has ended.
func (b *bench) part(name string, run func()) {
	b.Helper()
	folder := os.Getenv("OPERATOR_PROFILES")
	if folder == "" {
		run()
		return
	}
	require.NoError(b, os.MkdirAll(folder, 0o755))
	cpu, err := os.Create(filepath.Join(folder, name+".cpu"))
	require.NoError(b, err)
	defer cpu.Close()
	require.NoError(b, pprof.StartCPUProfile(cpu))
	run()
	pprof.StopCPUProfile()
	b.heap()
	live, err := os.Create(filepath.Join(folder, name+".heap"))
	require.NoError(b, err)
	defer live.Close()
	require.NoError(b, pprof.Lookup("heap").WriteTo(live, 0))
}

// cpu is the seconds of CPU time that have gone to the operator with this test, and to the API server and etcd that the
// test has started. Other than what a clock says, that is much the same on a busy machine.
type cpu struct{ operator, apiServer, etcd float64 }

func cpuTime(b *bench) (out cpu) {
	b.Helper()
	all, err := procfs.AllProcs()
	if err != nil {
		return out // not on Linux
	}
	for _, p := range all {
		s, err := p.Stat()
		switch {
		case err != nil: // it has just ended
		case s.PID == os.Getpid():
			out.operator += s.CPUTime()
		case s.PPID == os.Getpid() && s.Comm == "kube-apiserver":
			out.apiServer += s.CPUTime()
		case s.PPID == os.Getpid() && s.Comm == "etcd":
			out.etcd += s.CPUTime()
		}
	}
	return out
}

// spent says what each of n has cost since.
func (b *bench) spent(what string, since cpu, n int) {
	b.Helper()
	now, each := cpuTime(b), 1000/float64(n)
	b.report("  CPU of "+what, "", fmt.Sprintf("%.1f ms the operator and the test, %.1f ms the API server, %.1f ms etcd",
		(now.operator-since.operator)*each, (now.apiServer-since.apiServer)*each, (now.etcd-since.etcd)*each))
}

// spent is the time in reconciles of AppViews so far, and their number.
type spent struct {
	sum   float64 // seconds
	count uint64
}

// since is the mean of those after before.
func (s spent) since(before spent) time.Duration {
	if s.count == before.count {
		return 0
	}
	return time.Duration((s.sum - before.sum) / float64(s.count-before.count) * float64(time.Second))
}

// reconcileTime is what controller-runtime counts in this process.
func reconcileTime(b *bench) (out spent) {
	b.Helper()
	families, err := metrics.Registry.Gather()
	require.NoError(b, err)
	for _, f := range families {
		if f.GetName() != "controller_runtime_reconcile_time_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "controller" && l.GetValue() == "appview" {
					out.sum += m.GetHistogram().GetSampleSum()
					out.count += m.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	return out
}
