-- +goose Up

-- Blobs that nobody has and that may lie in the storage: their last user let them go, or they were just completed for their
-- first. Only these are ever removed from the storage. What the ledger never knew stays there, for the ledger may have been
-- lost, or be an older copy.
CREATE TABLE unowned (
    digest TEXT PRIMARY KEY
) WITHOUT ROWID, STRICT;

-- +goose StatementBegin
CREATE TRIGGER last_link AFTER DELETE ON links WHEN NOT EXISTS (SELECT 1 FROM links WHERE digest = old.digest)
BEGIN
    INSERT OR IGNORE INTO unowned (digest) VALUES (old.digest);
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER first_link AFTER INSERT ON links
BEGIN
    DELETE FROM unowned WHERE digest = new.digest;
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER first_link;
DROP TRIGGER last_link;
DROP TABLE unowned;
