-- +goose Up
-- All mirrors together have a bound.
ALTER TABLE mirrors ADD COLUMN row_count BIGINT NOT NULL DEFAULT 0; -- when all records were last read
UPDATE mirrors SET row_count = (SELECT count(*) FROM manifests m WHERE m.did = mirrors.did)
    + (SELECT count(*) FROM manifest_refs r WHERE r.did = mirrors.did) + (SELECT count(*) FROM tags t WHERE t.did = mirrors.did);

-- +goose Down
ALTER TABLE mirrors DROP COLUMN row_count;
