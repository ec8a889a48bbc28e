-- +goose Up
-- A deletion is written down before the PDS is asked, so that the hold learns of it whatever happens between: record is
-- the key of the manifest's record, which must be gone when the row is due; empty once the PDS has acknowledged.
ALTER TABLE outbox ADD COLUMN record TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE outbox DROP COLUMN record;
