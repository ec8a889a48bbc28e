-- +goose Up
-- What uploads became, for as long as a client may repeat its last PUT, at any replica.
CREATE TABLE ended_uploads (
    id         TEXT   NOT NULL PRIMARY KEY,
    did        TEXT   NOT NULL,
    repository TEXT   NOT NULL,
    hold       TEXT   NOT NULL,
    digest     TEXT   NOT NULL,
    ended_at   BIGINT NOT NULL -- Unix microseconds
);
CREATE INDEX ended_uploads_ended_at ON ended_uploads (ended_at);

-- +goose Down
DROP TABLE ended_uploads;
