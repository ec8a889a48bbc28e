-- +goose Up
-- Mirrors that nobody asks for are dropped.
ALTER TABLE mirrors ADD COLUMN read_at BIGINT NOT NULL DEFAULT 0; -- Unix seconds, exact to a day
UPDATE mirrors SET read_at = CAST(extract(epoch FROM now()) AS BIGINT);
CREATE INDEX mirrors_read_at ON mirrors (read_at);

-- +goose Down
DROP INDEX mirrors_read_at;
ALTER TABLE mirrors DROP COLUMN read_at;
