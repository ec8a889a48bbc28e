-- +goose Up

-- What a manifest names, read once from its bytes, which its digest covers.
CREATE TABLE read_manifests (
    digest TEXT PRIMARY KEY,
    blobs  TEXT NOT NULL -- JSON
) WITHOUT ROWID, STRICT;

-- +goose Down
DROP TABLE read_manifests;
