-- +goose Up

-- Users whose blobs are known by layer records alone, since the ledger was lost: the manifests on their PDSes, which name the
-- others, are still to be read.
CREATE TABLE restored (
    did TEXT    PRIMARY KEY,
    at  INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- 1 when deleted_at is the time at which a collection missed the manifest, of whose deletion nobody told.
ALTER TABLE manifests ADD COLUMN missed INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE manifests DROP COLUMN missed;
DROP TABLE restored;
