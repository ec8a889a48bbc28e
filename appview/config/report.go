package config

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"atcr.io/operator/appview/config/names"
)

// Setting is one variable as it is in force.
type Setting struct {
	names.Variable
	Value  string // "(set)" for a secret
	Source string // environment, default, derived, or unset
}

// Settings are the variables of a table as environ (as os.Environ gives it) and their defaults set them. derived are
// values of variables that are worked out of others when they are unset.
func Settings(table []names.Variable, environ []string, derived map[string]string) []Setting {
	set := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && v != "" {
			set[k] = v
		}
	}
	out := make([]Setting, len(table))
	for i, v := range table {
		s := Setting{Variable: v, Value: v.Default, Source: "default"}
		switch {
		case set[v.Name] != "":
			s.Value, s.Source = shown(v.Name, set[v.Name]), "environment"
		case v.Default != "":
		case derived[v.Name] != "":
			s.Value, s.Source = derived[v.Name], "derived"
		default:
			s.Source = "unset"
		}
		out[i] = s
	}
	return out
}

// shown hides secrets, also where none belong: in the user information of a URL.
func shown(name, value string) string {
	if slices.Contains(names.Secrets, name) || strings.Contains(value, "@") && strings.Contains(value, "://") {
		return "(set)"
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Sprintf("%q", value)
	}
	return value
}

// PrintSettings writes a table of settings.
func PrintSettings(w io.Writer, settings []Setting) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VARIABLE\tVALUE\tSOURCE")
	for _, s := range settings {
		source := s.Source
		if s.Activity == names.Later && source == "environment" {
			source += ", not active yet"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.Name, s.Value, source)
	}
	return t.Flush()
}

// PrintVariables writes the documentation of a table of variables, for --help and config list.
func PrintVariables(w io.Writer, table []names.Variable) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range table {
		note := ""
		switch v.Activity {
		case names.Required:
			note = " Required."
		case names.Later:
			note = " (Not active yet.)"
		}
		if v.Default != "" {
			note += " Default: " + v.Default + "."
		}
		fmt.Fprintf(t, "  %s\t%s%s\n", v.Name, v.Doc, note)
	}
	return t.Flush()
}
