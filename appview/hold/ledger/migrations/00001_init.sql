-- +goose Up

-- Which DIDs may read which blobs: a blob is stored once, and visible to those that pushed it.
CREATE TABLE links (
    did        TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    created_at INTEGER NOT NULL, -- Unix milliseconds, as every time here
    PRIMARY KEY (did, digest)
) WITHOUT ROWID, STRICT;
CREATE INDEX links_by_digest ON links (digest);

-- Uploads in progress, and for a while the completed ones, so that a repeated completeUpload gets the same answer.
CREATE TABLE uploads (
    id         TEXT    PRIMARY KEY,
    did        TEXT    NOT NULL,
    touched_at INTEGER NOT NULL,
    digest     TEXT    NOT NULL DEFAULT '', -- of the completed blob; empty while in progress
    size       INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID, STRICT;
CREATE INDEX uploads_by_touch ON uploads (touched_at);

-- The index of io.atcr.hold.layer records: one for each (manifest, layer), under a record key chosen once.
CREATE TABLE layers (
    manifest   TEXT    NOT NULL, -- at:// URI
    digest     TEXT    NOT NULL,
    did        TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    rkey       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (manifest, digest)
) WITHOUT ROWID, STRICT;
CREATE INDEX layers_by_did ON layers (did, digest);

-- The last push to each tag, by which a repeated notification is recognized.
CREATE TABLE pushes (
    did        TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (did, repository, tag)
) WITHOUT ROWID, STRICT;

-- +goose Down
DROP TABLE pushes;
DROP TABLE layers;
DROP TABLE uploads;
DROP TABLE links;
