package v1alpha1

import (
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateHoldLink checks what the CRD's rules check, and what they cannot express.
func ValidateHoldLink(h *HoldLink) field.ErrorList {
	var errs field.ErrorList
	s, at := &h.Spec, field.NewPath("spec")
	set := 0
	for _, is := range []bool{s.Hold.DID != "", s.Hold.URL != "", s.Hold.ServiceRef != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		errs = append(errs, field.Invalid(at.Child("hold"), "", "set exactly one of did, url and serviceRef"))
	}
	errs = append(errs, validateWords(reflect.ValueOf(s), at)...)
	errs = append(errs, validateOrigin(s.Hold.URL, at.Child("hold", "url"))...)
	errs = append(errs, validateOrigin(s.Endpoint, at.Child("endpoint"))...)
	if s.Endpoint != "" && s.Hold.DID == "" {
		errs = append(errs, field.Invalid(at.Child("endpoint"), s.Endpoint, "goes with hold.did only: a url or a serviceRef is its own endpoint"))
	}
	return append(errs, validateHealthCheck(&s.HealthCheck, at.Child("healthCheck"))...)
}

// validateHealthCheck takes a timeout that is longer than the interval, which only the CRD refuses: objects that are older
// than that rule have one, and their checks end with the interval.
func validateHealthCheck(c *HealthCheck, at *field.Path) field.ErrorList {
	errs := healthPath.validate(c.Path, at.Child("path"))
	errs = append(errs, validateRange(c.FailureThreshold, 1, 10, at.Child("failureThreshold"))...)
	errs = append(errs, validateRange(c.SuccessThreshold, 1, 10, at.Child("successThreshold"))...)
	errs = append(errs, validateDuration(c.Interval, 10*time.Second, time.Hour, at.Child("interval"))...)
	return append(errs, validateDuration(c.Timeout, time.Second, 30*time.Second, at.Child("timeout"))...)
}
