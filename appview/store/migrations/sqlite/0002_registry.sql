-- +goose Up

-- The mirror of the io.atcr.* records of every DID that the server has met. All of it can be read again from the
-- network. Times are Unix microseconds.
CREATE TABLE mirrors (
    did        TEXT   NOT NULL PRIMARY KEY,
    rev        TEXT   NOT NULL, -- repository revision that the rows below were read at
    commit_cid TEXT   NOT NULL, -- and its commit; empty when the PDS does not say
    synced_at  BIGINT NOT NULL
);

CREATE TABLE manifests (
    did           TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    rkey          TEXT   NOT NULL,
    cid           TEXT   NOT NULL, -- of the record
    repository    TEXT   NOT NULL, -- the one that the record names
    media_type    TEXT   NOT NULL,
    artifact_type TEXT   NOT NULL, -- empty: none, or not known before the blob is read
    size          BIGINT NOT NULL, -- 0: not known before the blob is read
    hold          TEXT   NOT NULL, -- DID of the hold with the blobs
    blob_cid      TEXT   NOT NULL, -- of the manifest's bytes on the PDS; empty in records without
    subject       TEXT   NOT NULL, -- digest; empty: none
    annotations   TEXT   NOT NULL, -- JSON object
    PRIMARY KEY (did, digest)
);
CREATE INDEX manifests_subject ON manifests (did, subject, digest) WHERE subject <> '';

-- Which repositories of the DID a manifest was pushed to.
CREATE TABLE manifest_repositories (
    did        TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (did, repository, digest)
);
CREATE INDEX manifest_repositories_digest ON manifest_repositories (did, digest);

-- What a manifest names: config, layers, and the entries of an index.
CREATE TABLE manifest_refs (
    did    TEXT NOT NULL,
    parent TEXT NOT NULL,
    child  TEXT NOT NULL,
    kind   TEXT NOT NULL, -- manifest or blob
    PRIMARY KEY (did, child, parent)
);
CREATE INDEX manifest_refs_parent ON manifest_refs (did, parent);

CREATE TABLE tags (
    did        TEXT   NOT NULL,
    rkey       TEXT   NOT NULL,
    cid        TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    tag        TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (did, rkey)
);
CREATE INDEX tags_name ON tags (did, repository, tag, updated_at);
CREATE INDEX tags_digest ON tags (did, digest);

-- Manifest bytes as pushed; a digest has the same bytes whoever owns it.
CREATE TABLE manifest_bytes (
    digest TEXT NOT NULL PRIMARY KEY,
    body   BLOB NOT NULL
);

-- Blob uploads in progress.
CREATE TABLE uploads (
    id          TEXT   NOT NULL PRIMARY KEY,
    did         TEXT   NOT NULL,
    repository  TEXT   NOT NULL,
    hold        TEXT   NOT NULL,
    byte_offset BIGINT NOT NULL,
    state       TEXT   NOT NULL, -- JSON: hash state, parts, the hold's upload
    version     BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE INDEX uploads_updated_at ON uploads (updated_at);

-- Notifications that holds have not acknowledged yet.
CREATE TABLE outbox (
    id       TEXT   NOT NULL PRIMARY KEY,
    did      TEXT   NOT NULL,
    hold     TEXT   NOT NULL,
    payload  TEXT   NOT NULL, -- JSON
    attempts BIGINT NOT NULL,
    due_at   BIGINT NOT NULL
);
CREATE INDEX outbox_due_at ON outbox (due_at);

-- +goose Down
DROP TABLE outbox;
DROP TABLE uploads;
DROP TABLE manifest_bytes;
DROP TABLE tags;
DROP TABLE manifest_refs;
DROP TABLE manifest_repositories;
DROP TABLE manifests;
DROP TABLE mirrors;
