// Package upload receives blobs: it passes the bytes of POST, PATCH and PUT requests on to the hold, hashing them on
// the way, and never holds more than one part of them.
//
// The state of an upload is a row in the store, shared by replicas: a request may be served by any of them, and by one
// that was killed and started again. A PATCH moves the offset only after the hold has acknowledged its parts, in one
// conditional update; a PATCH that fails leaves the upload as it was. No two requests use the same part number, so one
// that comes late overwrites nothing.
//
// A hold of the operator that takes whole blobs hears of an upload only when its bytes come: all of them with the PUT are
// one request to it, others open the upload there first.
//
// Start with [Uploader].
package upload
