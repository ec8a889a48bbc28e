-- +goose Up
-- Passwords are readable on purpose: a restart prints them again. This is not for production.
CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE account (
    did        TEXT PRIMARY KEY,
    handle     TEXT NOT NULL UNIQUE,
    email      TEXT NOT NULL DEFAULT '',
    password   TEXT NOT NULL,
    created_at TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE app_password (
    did        TEXT    NOT NULL REFERENCES account (did),
    name       TEXT    NOT NULL,
    password   TEXT    NOT NULL,
    privileged INTEGER NOT NULL DEFAULT 0,
    created_at TEXT    NOT NULL,
    PRIMARY KEY (did, name)
) WITHOUT ROWID;

CREATE TABLE refresh_token (
    id           TEXT    PRIMARY KEY,
    did          TEXT    NOT NULL REFERENCES account (did),
    app_password TEXT    NOT NULL DEFAULT '', -- name; empty for the account's own password
    expires_at   INTEGER NOT NULL,            -- Unix milliseconds
    next_id      TEXT    NOT NULL DEFAULT ''  -- the token that replaced this one
) WITHOUT ROWID;

CREATE TABLE plc_operation (
    seq        INTEGER PRIMARY KEY,
    did        TEXT NOT NULL,
    cid        TEXT NOT NULL,
    operation  TEXT NOT NULL, -- JSON
    created_at TEXT NOT NULL
);
CREATE INDEX plc_operation_did ON plc_operation (did, seq);

-- +goose Down
DROP TABLE plc_operation;
DROP TABLE refresh_token;
DROP TABLE app_password;
DROP TABLE account;
DROP TABLE setting;
