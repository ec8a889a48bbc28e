-- +goose Up
-- Refresh tokens of the registry. One is good only while the PDS session of its app password lives.
CREATE TABLE refresh_tokens (
    hash       TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- hex SHA-256 of the token, which has 256 random bits
    credential TEXT COLLATE "C" NOT NULL,             -- of pds_sessions
    did        TEXT COLLATE "C" NOT NULL,
    client     TEXT COLLATE "C" NOT NULL,             -- client_id as the client called itself; may be empty
    created_at BIGINT NOT NULL,             -- Unix seconds
    used_at    BIGINT NOT NULL              -- Unix seconds, exact to a day
);
CREATE INDEX refresh_tokens_credential ON refresh_tokens (credential, used_at);
CREATE INDEX refresh_tokens_used_at ON refresh_tokens (used_at);
CREATE INDEX refresh_tokens_created_at ON refresh_tokens (created_at);

-- +goose Down
DROP TABLE refresh_tokens;
