-- +goose Up

-- What a manifest of a DID names, read once from its bytes, which its digest covers. It is a memory of what PDSes have: each
-- DID has its own, so that one that makes it large loses no more than that.
DROP TABLE read_manifests;
CREATE TABLE read_manifests (
    did    TEXT NOT NULL,
    digest TEXT NOT NULL,
    blobs  TEXT NOT NULL, -- JSON
    PRIMARY KEY (did, digest)
) WITHOUT ROWID, STRICT;

-- +goose Down
DROP TABLE read_manifests;
CREATE TABLE read_manifests (
    digest TEXT PRIMARY KEY,
    blobs  TEXT NOT NULL -- JSON
) WITHOUT ROWID, STRICT;
