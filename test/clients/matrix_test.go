package clients

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// After the tests the table of clients is printed: what each was seen to do, over every hold it ran with. A client of
// which one test failed has a FAIL in its line.
func TestMain(m *testing.M) {
	code := m.Run()
	if table := seen.String(); table != "" {
		fmt.Print("\n" + table + "\n")
	}
	os.Exit(code)
}

// column of the table.
type column int

const (
	canLogin column = iota
	canPush
	canPull
	columns
)

type matrix struct {
	mu   sync.Mutex
	rows map[string]*row
}

type row struct {
	version string
	done    [columns]bool
	notes   []string
	failed  bool
}

var seen = matrix{rows: map[string]*row{}}

// line is a client's line in the table, written by one test.
type line struct{ name string }

// enter puts a client into the table.
func enter(t *testing.T, name, version string) line {
	t.Helper()
	seen.change(name, func(r *row) { r.version = version })
	t.Cleanup(func() {
		if t.Failed() {
			seen.change(name, func(r *row) { r.failed = true })
		}
	})
	return line{name}
}

// did says that the client has done it.
func (l line) did(c column) { seen.change(l.name, func(r *row) { r.done[c] = true }) }

// note says what else the client has done.
func (l line) note(what string) {
	seen.change(l.name, func(r *row) {
		if !slices.Contains(r.notes, what) {
			r.notes = append(r.notes, what)
		}
	})
}

func (m *matrix) change(name string, change func(*row)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rows[name] == nil {
		m.rows[name] = &row{}
	}
	change(m.rows[name])
}

func (m *matrix) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rows) == 0 {
		return ""
	}
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "client\tversion\tlogin\tpush\tpull\tnotes")
	for _, name := range slices.Sorted(maps.Keys(m.rows)) {
		r := m.rows[name]
		fmt.Fprintf(w, "%s\t%s", name, r.version)
		for _, done := range r.done {
			cell := "-"
			if done {
				cell = "yes"
			}
			if r.failed {
				cell = "FAIL"
			}
			fmt.Fprintf(w, "\t%s", cell)
		}
		slices.Sort(r.notes) // tests run side by side
		fmt.Fprintf(w, "\t%s\n", strings.Join(r.notes, ", "))
	}
	_ = w.Flush() // into memory
	return out.String()
}
