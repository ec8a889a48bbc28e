-- +goose Up
CREATE TABLE repo (
    id          INTEGER PRIMARY KEY,
    did         TEXT    NOT NULL UNIQUE,
    signing_key TEXT    NOT NULL, -- multibase private key
    head        BLOB    NOT NULL, -- CID of the latest commit
    data        BLOB    NOT NULL, -- CID of the MST root
    rev         TEXT    NOT NULL
);

-- Exactly the blocks of the current state of each repository: the head commit, MST nodes, records.
-- rev is the revision that brought the block in, for getRepo?since.
CREATE TABLE block (
    repo_id INTEGER NOT NULL REFERENCES repo (id),
    cid     BLOB    NOT NULL,
    rev     TEXT    NOT NULL,
    content BLOB    NOT NULL,
    PRIMARY KEY (repo_id, cid)
);
CREATE INDEX block_rev ON block (repo_id, rev);

CREATE TABLE record (
    repo_id    INTEGER NOT NULL REFERENCES repo (id),
    collection TEXT    NOT NULL,
    rkey       TEXT    NOT NULL,
    cid        BLOB    NOT NULL,
    PRIMARY KEY (repo_id, collection, rkey)
) WITHOUT ROWID;
CREATE INDEX record_cid ON record (repo_id, cid);

CREATE TABLE blob (
    repo_id     INTEGER NOT NULL REFERENCES repo (id),
    cid         BLOB    NOT NULL,
    mime_type   TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    uploaded_at INTEGER NOT NULL, -- Unix milliseconds of the latest upload
    PRIMARY KEY (repo_id, cid)
) WITHOUT ROWID;

CREATE TABLE blob_ref (
    repo_id    INTEGER NOT NULL REFERENCES repo (id),
    cid        BLOB    NOT NULL,
    collection TEXT    NOT NULL,
    rkey       TEXT    NOT NULL,
    PRIMARY KEY (repo_id, cid, collection, rkey)
) WITHOUT ROWID;
CREATE INDEX blob_ref_record ON blob_ref (repo_id, collection, rkey);

-- AUTOINCREMENT: a sequence number is never given twice, also after old events were pruned.
CREATE TABLE event (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    did   TEXT    NOT NULL,
    kind  TEXT    NOT NULL,
    at    INTEGER NOT NULL, -- Unix milliseconds
    frame BLOB    NOT NULL
);

-- +goose Down
DROP TABLE event;
DROP TABLE blob_ref;
DROP TABLE blob;
DROP TABLE record;
DROP TABLE block;
DROP TABLE repo;
