-- +goose Up

-- Manifest bytes are a cache with a bound: what was not used for longest goes first.
ALTER TABLE manifest_bytes ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
ALTER TABLE manifest_bytes ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0; -- Unix microseconds
UPDATE manifest_bytes SET size = length(body), used_at = CAST(extract(epoch FROM now()) AS BIGINT) * 1000000;
CREATE INDEX manifest_bytes_used_at ON manifest_bytes (used_at);
CREATE INDEX manifests_digest ON manifests (digest);

-- Each hold has a queue of its own.
CREATE INDEX outbox_hold ON outbox (hold, due_at);

-- +goose Down
DROP INDEX outbox_hold;
DROP INDEX manifests_digest;
DROP INDEX manifest_bytes_used_at;
ALTER TABLE manifest_bytes DROP COLUMN used_at;
ALTER TABLE manifest_bytes DROP COLUMN size;
