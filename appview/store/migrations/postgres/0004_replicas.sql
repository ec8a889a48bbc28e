-- +goose Up

-- Counts changes of the DID's rows. What a process remembers of them is right as long as it stands.
ALTER TABLE mirrors ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE mirrors DROP COLUMN generation;
