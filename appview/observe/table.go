package observe

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// description is how the Prometheus client prints what a metric is.
var description = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: ("(?:[^"\\]|\\.)*"), (?:unit: "[^"]*", )?constLabels: \{[^}]*\}, variableLabels: \{([^}]*)\}\}$`)

// families are metrics of the runtime and of libraries, described where they come from.
var families = []struct{ prefix, from string }{
	{"go_sql_", "connection pools of the database, by `db_name`"},
	{"go_", "the Go runtime"},
	{"process_", "the process"},
	{"promhttp_", "the metrics endpoint itself"},
}

// Table is the Markdown table of everything that a registry exposes.
func Table(registered prometheus.Collector) (string, error) {
	ch := make(chan *prometheus.Desc)
	go func() { defer close(ch); registered.Describe(ch) }()
	own, others := []string{}, map[string]bool{}
	var bad error
	for d := range ch {
		m := description.FindStringSubmatch(d.String())
		if m == nil {
			bad = fmt.Errorf("the client library prints metrics in another form: %s", d)
			continue
		}
		name, labels := m[1], m[3]
		help, err := strconv.Unquote(m[2])
		if err != nil {
			bad = err
		}
		if i := slices.IndexFunc(families, func(f struct{ prefix, from string }) bool { return strings.HasPrefix(name, f.prefix) }); i >= 0 {
			others[fmt.Sprintf("| `%s*` | | %s |\n", families[i].prefix, families[i].from)] = true
			continue
		}
		if labels != "" {
			labels = "`" + strings.ReplaceAll(labels, ",", "`, `") + "`"
		}
		own = append(own, fmt.Sprintf("| `%s` | %s | %s |\n", name, labels, help))
	}
	slices.Sort(own)
	own = slices.Compact(own)
	for _, f := range families {
		for line := range others {
			if strings.HasPrefix(line, "| `"+f.prefix+"*`") {
				own = append(own, line)
			}
		}
	}
	return "| metric | labels | meaning |\n| --- | --- | --- |\n" + strings.Join(own, ""), bad
}
