package bench

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Report is what a run measured.
type Report struct {
	Tables []*Table
	// Values are medians by measurement and peer, for whoever wants to compare two runs.
	Values map[string]map[string]float64
}

// Table is one section of a report.
type Table struct {
	Title, Note string
	Columns     []string
	Rows        [][]string
}

func (t *Table) add(cells ...string) { t.Rows = append(t.Rows, cells) }

// String lays the table out.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n", t.Title, t.Note)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(t.Columns, "\t"))
	for _, row := range t.Rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
	return b.String()
}

func (r *run) table(title, note string, columns ...string) *Table {
	t := &Table{Title: title, Note: note, Columns: columns}
	r.report.Tables = append(r.report.Tables, t)
	return t
}

func (r *run) say(format string, args ...any) { fmt.Fprintf(r.Out, format+"\n", args...) }

// note keeps one value for comparison.
func (r *run) note(measurement, peer string, value float64) {
	if r.report.Values[measurement] == nil {
		r.report.Values[measurement] = map[string]float64{}
	}
	r.report.Values[measurement][peer] = value
}

func (r *run) record(measurement string, got map[*peer]*taken) {
	for p, g := range got {
		r.note(measurement+", CPU us", p.name, g.cpu.median())
		r.note(measurement+", requests/s", p.name, g.rate.median())
	}
}
