// Package storage is where a hold keeps blobs and the parts of uploads in progress.
//
// Start at [Driver]. Two drivers implement it: filesystem, for one machine, and s3, for any S3-compatible endpoint.
// Both pass the behavioral suite in storagetest.
//
// A blob becomes visible in one step, and only when its bytes hash to its digest: until then its parts lie apart from
// all blobs. Clients move the bytes of parts and blobs by URLs that a driver hands out, so that an S3 hold moves none
// itself; the filesystem driver serves its own URLs.
package storage
