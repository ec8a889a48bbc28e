package pds

import "errors"

// What a caller can distinguish. Errors returned by the engine wrap one of these, or come from the storage below.
var (
	// ErrRepoNotFound: the engine hosts no repository of this DID.
	ErrRepoNotFound = errors.New("repository not found")
	// ErrRepoExists: CreateRepo for a DID that has a repository already.
	ErrRepoExists = errors.New("repository exists already")
	// ErrRecordNotFound: no record at this collection and key (an update or a read; a delete of an absent record is no error).
	ErrRecordNotFound = errors.New("record not found")
	// ErrRecordExists: a create for a key that is taken.
	ErrRecordExists = errors.New("record exists already")
	// ErrInvalidSwap: the record or the commit is not the one that the caller expected.
	ErrInvalidSwap = errors.New("the record or repository is not in the expected state")
	// ErrInvalidRecord: the record's value, collection or key breaks the AT Protocol data model.
	ErrInvalidRecord = errors.New("invalid record")
	// ErrTooManyWrites: more than MaxWrites writes, or an event above MaxEventBytes.
	ErrTooManyWrites = errors.New("too many writes")
	// ErrBlobNotFound: no such blob, or (on reads) no record references it.
	ErrBlobNotFound = errors.New("blob not found")
	// ErrBlobTooLarge: more bytes than PutBlob was told to take.
	ErrBlobTooLarge = errors.New("blob too large")
	// ErrBlobMismatch: a record names a blob with another media type or size than the stored one.
	ErrBlobMismatch = errors.New("blob does not match its reference")
	// ErrInvalidRequest: an argument out of its range, or a malformed cursor.
	ErrInvalidRequest = errors.New("invalid request")
	// ErrFutureCursor: a subscription from a sequence number that was never assigned.
	ErrFutureCursor = errors.New("cursor is in the future")
	// ErrConsumerTooSlow: events that a subscription had not delivered yet were dropped.
	ErrConsumerTooSlow = errors.New("the consumer is too slow")
)
