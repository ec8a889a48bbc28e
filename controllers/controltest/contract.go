package controltest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"atcr.io/operator/api/v1alpha1"
	"atcr.io/operator/test/testenv"
)

// Contract is what the page of a kind says of its conditions: for each type the reasons with which it is true, and those
// with which it is not.
type Contract map[string]Reasons

// Reasons of one type of condition.
type Reasons struct{ True, NotTrue []string }

// pages of the kinds, in api/v1alpha1.
var pages = map[string]string{"AppView": "appview.md", "HoldLink": "holdlink.md"}

var (
	conditionRow = regexp.MustCompile("^\\| `([A-Z][A-Za-z]+)` \\| (.*) \\| (.*) \\|$")
	reasonWord   = regexp.MustCompile("`([A-Z][A-Za-z]+)`")
)

// ReadContract reads the table below "## Conditions" of a kind's page.
func ReadContract(kind string) (Contract, error) {
	root, err := testenv.Root()
	if err != nil {
		return nil, err
	}
	page, err := os.ReadFile(filepath.Join(root, "api", "v1alpha1", pages[kind]))
	if err != nil {
		return nil, err
	}
	_, table, found := strings.Cut(string(page), "\n## Conditions\n")
	if !found {
		return nil, fmt.Errorf("%s has no chapter about conditions", pages[kind])
	}
	out := Contract{}
	for line := range strings.Lines(table) {
		if row := conditionRow.FindStringSubmatch(strings.TrimSpace(line)); row != nil {
			out[row[1]] = Reasons{words(row[2]), words(row[3])}
		}
	}
	return out, nil
}

func words(cell string) (out []string) {
	for _, w := range reasonWord.FindAllStringSubmatch(cell, -1) {
		out = append(out, w[1])
	}
	return out
}

// allows says whether the page promises such a condition. Ready and Stalled repeat the reason of any other one.
func (c Contract) allows(got metav1.Condition) bool {
	row, known := c[got.Type]
	switch {
	case !known:
		return false
	case got.Type == v1alpha1.ConditionStalled, got.Type == v1alpha1.ConditionReady && got.Status != metav1.ConditionTrue:
		for _, r := range c {
			if slices.Contains(r.NotTrue, got.Reason) {
				return true
			}
		}
		return false
	case got.Status == metav1.ConditionTrue:
		return slices.Contains(row.True, got.Reason)
	}
	return slices.Contains(row.NotTrue, got.Reason)
}

// seen are the conditions that tests of this binary have waited for. What a watch happens to see in passing does not count:
// another time it may not.
var seen = struct {
	sync.Mutex
	contracts  map[string]Contract
	conditions map[string]map[shown]bool // by kind
}{contracts: map[string]Contract{}, conditions: map[string]map[shown]bool{}}

type shown struct {
	kind, reason string
	yes          bool
}

func (s shown) String() string {
	if s.yes {
		return s.kind + "=True/" + s.reason
	}
	return s.kind + " not true/" + s.reason
}

// see notes those conditions of a status that a test has waited for, each as "Type=Status" or "Type=Status/Reason".
func see(kind string, conditions []metav1.Condition, waited []string) {
	seen.Lock()
	defer seen.Unlock()
	if seen.conditions[kind] == nil {
		seen.conditions[kind] = map[shown]bool{}
	}
	for _, w := range waited {
		name, _, _ := strings.Cut(w, "=")
		if c := meta.FindStatusCondition(conditions, name); c != nil {
			seen.conditions[kind][shown{c.Type, c.Reason, c.Status == metav1.ConditionTrue}] = true
		}
	}
}

// unpromised says which conditions of a status the page of the kind does not promise.
func unpromised(kind string, conditions []metav1.Condition) (broken []error) {
	seen.Lock()
	defer seen.Unlock()
	if seen.contracts[kind] == nil {
		c, err := ReadContract(kind)
		if err != nil {
			return []error{err}
		}
		seen.contracts[kind] = c
	}
	for _, c := range conditions {
		if !seen.contracts[kind].allows(c) {
			broken = append(broken, fmt.Errorf("%s=%s/%s (%s) is not in the table of conditions in api/v1alpha1/%s",
				c.Type, c.Status, c.Reason, c.Message, pages[kind]))
		}
	}
	return broken
}

// Promise is what the page of a kind says of its conditions, or of some of them.
type Promise struct {
	Kind   string
	Only   []string // types; empty: all
	Except []string // types
}

// unseen says which promised conditions no test of this binary has waited for.
func (p Promise) unseen() error {
	kind := p.Kind
	c, err := ReadContract(kind)
	if err != nil {
		return err
	}
	seen.Lock()
	defer seen.Unlock()
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if len(p.Only) > 0 && !slices.Contains(p.Only, name) || slices.Contains(p.Except, name) {
			continue
		}
		for _, r := range c[name].True {
			if s := (shown{name, r, true}); !seen.conditions[kind][s] {
				missing = append(missing, s.String())
			}
		}
		for _, r := range c[name].NotTrue {
			if s := (shown{name, r, false}); !seen.conditions[kind][s] {
				missing = append(missing, s.String())
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return errors.New(kind + ": api/v1alpha1/" + pages[kind] + " promises conditions that no test here waits for; write the test, or take them away:\n\t" +
		strings.Join(missing, "\n\t"))
}
