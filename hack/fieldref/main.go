// Command fieldref writes the field reference of each kind from its CRD: every field with its type, its limits and
// what the API server refuses, as `kubectl explain` knows them.
//
//	go run ./hack/fieldref config/crd/bases api/v1alpha1
//
// It reads the schemas and not the Go types, since the schema is what an API server enforces.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: fieldref FOLDER-OF-CRDS FOLDER-OF-PAGES")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run writes pages/KIND-fields.md for every CRD in the folder.
func run(crds, pages string) error {
	files, err := filepath.Glob(filepath.Join(crds, "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no CRDs in %s: %w", crds, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		page, err := render(&crd)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		out := filepath.Join(pages, strings.ToLower(crd.Spec.Names.Kind)+"-fields.md")
		if err := os.WriteFile(out, []byte(page), 0o644); err != nil {
			return err
		}
	}
	return nil
}
