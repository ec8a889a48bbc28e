-- +goose Up
-- The same tables as with SQLite. COLLATE "C" compares bytes, as SQLite does: lists of the Distribution API are in byte
-- order, whatever the locale of the database.

-- One PDS session per app password. Neither the password nor the tokens are readable without the sealing key.
CREATE TABLE pds_sessions (
    credential TEXT COLLATE "C" PRIMARY KEY,   -- hex HMAC of DID and app password
    did        TEXT COLLATE "C" NOT NULL,
    pds        TEXT COLLATE "C" NOT NULL,      -- endpoint that made the session; tokens go nowhere else
    sealed     BYTEA NOT NULL,      -- access and refresh token
    expires_at BIGINT NOT NULL,    -- of the access token, Unix seconds
    ends_at    BIGINT NOT NULL,    -- of the refresh token, Unix seconds
    version    BIGINT NOT NULL,    -- counts refreshes; a writer that read an older one loses
    updated_at BIGINT NOT NULL     -- Unix seconds
);
CREATE INDEX pds_sessions_did ON pds_sessions (did, updated_at);
CREATE INDEX pds_sessions_ends_at ON pds_sessions (ends_at);

-- Short locks between processes. A holder that dies loses its lease when it runs out.
CREATE TABLE leases (
    name       TEXT COLLATE "C" PRIMARY KEY,
    holder     TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL     -- Unix milliseconds
);

-- +goose Down
DROP TABLE leases;
DROP TABLE pds_sessions;
