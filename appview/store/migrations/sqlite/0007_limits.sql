-- +goose Up
-- How many uploads an account has open is asked at each new one.
CREATE INDEX uploads_did ON uploads (did, updated_at);

-- +goose Down
DROP INDEX uploads_did;
