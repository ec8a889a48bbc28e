-- +goose Up
-- Identities as they were found last: they bridge an outage of their directory, also over a restart.
CREATE TABLE identities (
    did      TEXT   NOT NULL PRIMARY KEY,
    handle   TEXT   NOT NULL, -- verified both ways; empty: none
    document TEXT   NOT NULL, -- JSON, of the DID
    found_at BIGINT NOT NULL  -- Unix seconds, exact to an hour
);
CREATE INDEX identities_handle ON identities (handle, found_at) WHERE handle <> '';
CREATE INDEX identities_found_at ON identities (found_at);

-- +goose Down
DROP TABLE identities;
