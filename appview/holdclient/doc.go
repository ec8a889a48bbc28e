// Package holdclient speaks to holds: the services that keep blobs (HTTP contract: io.atcr.hold.* and
// com.atproto.sync.getBlob).
//
// Start with [Client]. It finds a hold's endpoint from its DID or from the runtime file, signs calls with service
// tokens of the user whose blobs are at stake, streams bodies without buffering them, and turns every failure into an
// [Error] whose Kind says what happens next. It is tolerant in what it accepts: holds of other releases answer with
// JSON, a redirect or raw bytes.
package holdclient
