-- +goose Up

-- The mirror of the io.atcr.* records of every DID that the server has met. All of it can be read again from the
-- network. Times are Unix microseconds.
CREATE TABLE mirrors (
    did        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    rev        TEXT COLLATE "C" NOT NULL, -- repository revision that the rows below were read at
    commit_cid TEXT COLLATE "C" NOT NULL, -- and its commit; empty when the PDS does not say
    synced_at  BIGINT NOT NULL
);

CREATE TABLE manifests (
    did           TEXT COLLATE "C" NOT NULL,
    digest        TEXT COLLATE "C" NOT NULL,
    rkey          TEXT COLLATE "C" NOT NULL,
    cid           TEXT COLLATE "C" NOT NULL, -- of the record
    repository    TEXT COLLATE "C" NOT NULL, -- the one that the record names
    media_type    TEXT COLLATE "C" NOT NULL,
    artifact_type TEXT COLLATE "C" NOT NULL, -- empty: none, or not known before the blob is read
    size          BIGINT NOT NULL, -- 0: not known before the blob is read
    hold          TEXT COLLATE "C" NOT NULL, -- DID of the hold with the blobs
    blob_cid      TEXT COLLATE "C" NOT NULL, -- of the manifest's bytes on the PDS; empty in records without
    subject       TEXT COLLATE "C" NOT NULL, -- digest; empty: none
    annotations   TEXT COLLATE "C" NOT NULL, -- JSON object
    PRIMARY KEY (did, digest)
);
CREATE INDEX manifests_subject ON manifests (did, subject, digest) WHERE subject <> '';

-- Which repositories of the DID a manifest was pushed to.
CREATE TABLE manifest_repositories (
    did        TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    digest     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (did, repository, digest)
);
CREATE INDEX manifest_repositories_digest ON manifest_repositories (did, digest);

-- What a manifest names: config, layers, and the entries of an index.
CREATE TABLE manifest_refs (
    did    TEXT COLLATE "C" NOT NULL,
    parent TEXT COLLATE "C" NOT NULL,
    child  TEXT COLLATE "C" NOT NULL,
    kind   TEXT COLLATE "C" NOT NULL, -- manifest or blob
    PRIMARY KEY (did, child, parent)
);
CREATE INDEX manifest_refs_parent ON manifest_refs (did, parent);

CREATE TABLE tags (
    did        TEXT COLLATE "C" NOT NULL,
    rkey       TEXT COLLATE "C" NOT NULL,
    cid        TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    tag        TEXT COLLATE "C" NOT NULL,
    digest     TEXT COLLATE "C" NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (did, rkey)
);
CREATE INDEX tags_name ON tags (did, repository, tag, updated_at);
CREATE INDEX tags_digest ON tags (did, digest);

-- Manifest bytes as pushed; a digest has the same bytes whoever owns it.
CREATE TABLE manifest_bytes (
    digest TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    body   BYTEA NOT NULL
);

-- Blob uploads in progress.
CREATE TABLE uploads (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    did         TEXT COLLATE "C" NOT NULL,
    repository  TEXT COLLATE "C" NOT NULL,
    hold        TEXT COLLATE "C" NOT NULL,
    byte_offset BIGINT NOT NULL,
    state       TEXT COLLATE "C" NOT NULL, -- JSON: hash state, parts, the hold's upload
    version     BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE INDEX uploads_updated_at ON uploads (updated_at);

-- Notifications that holds have not acknowledged yet.
CREATE TABLE outbox (
    id       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    did      TEXT COLLATE "C" NOT NULL,
    hold     TEXT COLLATE "C" NOT NULL,
    payload  TEXT COLLATE "C" NOT NULL, -- JSON
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
