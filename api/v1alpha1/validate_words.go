package v1alpha1

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// word is what the schema says of a type of strings.
type word struct {
	pattern *regexp.Regexp
	most    int // characters
	says    string
}

var (
	objectName = word{regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`), 253, "must be a name: lower-case letters, digits, hyphens and dots"}
	label      = word{regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`), 63, "must be a name: lower-case letters, digits and hyphens"}

	words = map[reflect.Type]word{
		reflect.TypeFor[ObjectName]():    objectName,
		reflect.TypeFor[ServiceName]():   label,
		reflect.TypeFor[NamespaceName](): label,
		reflect.TypeFor[SecretKey]():     {regexp.MustCompile(`^[-._a-zA-Z0-9]+$`), 253, "must be the key of an entry: letters, digits, '-', '_' and '.'"},
		reflect.TypeFor[DID]():           {didPattern, 270, "must be did:plc:... or did:web:host[%3Aport]"},
		reflect.TypeFor[Host]():          {regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`), 260, "must be host or host:port"},
		reflect.TypeFor[Registry](): {regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?$`), maxRegistry,
			"must be host or host:port, of 200 characters at most"},
	}

	serviceName = word{regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$`), 253, "must be the name in tokens, such as the registry's host: letters, digits, '.', ':', '_' and '-'"}
	volumeName  = word{label.pattern, 57, label.says}
	mountPath   = word{regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$`), 253, "must be a path from the root, without '..', to somewhere below it"}
	envName     = word{regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`), 128, "must be the name of a variable: letters, digits and '_'"}
	healthPath  = word{regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`), 256, "must be a path without query, from the root"}
)

func (w word) validate(s string, at *field.Path) field.ErrorList {
	if s == "" || len(s) <= w.most && w.pattern.MatchString(s) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, s, fmt.Sprintf("%s, %d characters at most", w.says, w.most))}
}

// validateWords checks every string in v, a part of a spec, whose type is one of [words]. What is not set is right, but
// for the name in a reference.
func validateWords(v reflect.Value, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if w, is := words[v.Type()]; is {
		return w.validate(v.String(), at)
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return validateWords(v.Elem(), at)
		}
	case reflect.Slice:
		for i := range v.Len() {
			errs = append(errs, validateWords(v.Index(i), at.Index(i))...)
		}
	case reflect.Struct:
		if v.Type().PkgPath() != reflect.TypeFor[word]().PkgPath() {
			return nil // Kubernetes' own, which its API checks where it is used
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if _, is := words[f.Type]; is && f.Name == "Name" && v.Field(i).Len() == 0 {
				errs = append(errs, field.Required(at.Child(name), "name it"))
			}
			errs = append(errs, validateWords(v.Field(i), at.Child(name))...)
		}
	}
	return errs
}

// validateRange checks a number that is set.
func validateRange(n, low, high int32, at *field.Path) field.ErrorList {
	if n == 0 || low <= n && n <= high {
		return nil
	}
	return field.ErrorList{field.Invalid(at, n, fmt.Sprintf("must be between %d and %d", low, high))}
}
