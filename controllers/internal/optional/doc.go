// Package optional watches kinds that a cluster may or may not serve: those of the Gateway API, of
// cert-manager and of the Prometheus operator.
//
// They are read as unstructured objects, from a cache of its own. A kind is watched from when its definition is
// installed, at start or later, until it is removed; nothing is asked for a kind that is not there. A kind that the
// operator's role does not name is not watched either: whoever needs it gets [ErrForbidden].
package optional
