-- +goose Up

-- Repositories with a statistics record: a DID has a limited number of them.
CREATE TABLE counted (
    did        TEXT NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (did, repository)
) WITHOUT ROWID, STRICT;

-- +goose Down
DROP TABLE counted;
