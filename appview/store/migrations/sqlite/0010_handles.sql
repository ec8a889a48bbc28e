-- +goose Up
-- Whose images a handle has named here, so that a handle that moves to another account does not take the trust of those
-- who pull along.
CREATE TABLE handles (
    handle     TEXT NOT NULL,
    did        TEXT NOT NULL,
    since      BIGINT NOT NULL,    -- when the handle was first seen at the DID, or came back to it, Unix microseconds
    held_until BIGINT NOT NULL,    -- tags are not served before, Unix microseconds; 0: they are
    PRIMARY KEY (handle, did)
);

-- +goose Down
DROP TABLE handles;
