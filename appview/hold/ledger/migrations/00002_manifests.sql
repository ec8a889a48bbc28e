-- +goose Up

-- A link is used when its blob is pushed, and again when a manifest is reserved that names it.
ALTER TABLE links RENAME COLUMN created_at TO used_at;

-- What the hold was told of manifests, by reservations and notifications.
CREATE TABLE manifests (
    did         TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    rev         TEXT    NOT NULL DEFAULT '', -- newest commit of the user's repository that a notification named
    reserved_at INTEGER NOT NULL DEFAULT 0,  -- the manifest is about to be pushed; 0 when it was notified since
    notified_at INTEGER NOT NULL DEFAULT 0,  -- of the last push
    deleted_at  INTEGER NOT NULL DEFAULT 0,  -- 0 unless the manifest is gone; a later push sets it back
    PRIMARY KEY (did, digest)
) WITHOUT ROWID, STRICT;
CREATE INDEX manifests_by_deletion ON manifests (deleted_at) WHERE deleted_at > 0;
CREATE INDEX manifests_by_reservation ON manifests (reserved_at) WHERE reserved_at > 0;

-- The blobs of those manifests that the user has in this hold: layers, and the config.
CREATE TABLE manifest_blobs (
    did      TEXT    NOT NULL,
    manifest TEXT    NOT NULL, -- digest
    digest   TEXT    NOT NULL,
    layer    INTEGER NOT NULL, -- 1 when it counts towards the quota
    PRIMARY KEY (did, manifest, digest)
) WITHOUT ROWID, STRICT;
CREATE INDEX manifest_blobs_by_blob ON manifest_blobs (did, digest);

CREATE INDEX uploads_by_did ON uploads (did) WHERE digest = '';

-- +goose Down
DROP INDEX uploads_by_did;
DROP TABLE manifest_blobs;
DROP TABLE manifests;
ALTER TABLE links RENAME COLUMN used_at TO created_at;
