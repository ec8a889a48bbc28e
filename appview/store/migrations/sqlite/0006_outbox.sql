-- +goose Up
-- What one user did comes to a hold in order, whatever was put off meanwhile.
ALTER TABLE outbox ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0; -- Unix microseconds
UPDATE outbox SET created_at = due_at;

-- +goose Down
ALTER TABLE outbox DROP COLUMN created_at;
