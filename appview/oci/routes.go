package oci

import (
	"net/http"

	"atcr.io/operator/appview/oci/spec"
)

// right is what a token must allow for a route. Rights are decided here and nowhere else.
type right string

const (
	anyToken right = ""       // any valid token, also an anonymous one
	pull     right = "pull"   // repository:<name>:pull
	push     right = "push"   // repository:<name>:push
	remove   right = "delete" // repository:<name>:delete
	catalog  right = "*"      // registry:catalog:*
)

type handler func(*Registry, http.ResponseWriter, *request) error

type route struct {
	endpoint spec.Endpoint
	method   string
	right    right
	handle   handler
}

// routes is the whole API. HEAD is named where it is served.
var routes = []route{
	{spec.Base, http.MethodGet, anyToken, (*Registry).base},
	{spec.Base, http.MethodHead, anyToken, (*Registry).base},
	{spec.Catalog, http.MethodGet, catalog, (*Registry).listRepositories},

	{spec.Manifest, http.MethodGet, pull, (*Registry).getManifest},
	{spec.Manifest, http.MethodHead, pull, (*Registry).getManifest},
	{spec.Manifest, http.MethodPut, push, (*Registry).putManifest},
	{spec.Manifest, http.MethodDelete, remove, (*Registry).deleteManifest},

	{spec.Tags, http.MethodGet, pull, (*Registry).listTags},
	{spec.Referrers, http.MethodGet, pull, (*Registry).listReferrers},

	{spec.Blob, http.MethodGet, pull, (*Registry).getBlob},
	{spec.Blob, http.MethodHead, pull, (*Registry).headBlob},
	{spec.Blob, http.MethodDelete, remove, (*Registry).deleteBlob},

	{spec.Uploads, http.MethodPost, push, (*Registry).startUpload},
	{spec.Upload, http.MethodGet, push, (*Registry).uploadStatus},
	{spec.Upload, http.MethodPatch, push, (*Registry).appendUpload},
	{spec.Upload, http.MethodPut, push, (*Registry).finishUpload},
	{spec.Upload, http.MethodDelete, push, (*Registry).cancelUpload},
}

// table is routes by endpoint and method.
var table = func() map[spec.Endpoint]map[string]route {
	t := map[spec.Endpoint]map[string]route{}
	for _, r := range routes {
		if t[r.endpoint] == nil {
			t[r.endpoint] = map[string]route{}
		}
		t[r.endpoint][r.method] = r
	}
	return t
}()
