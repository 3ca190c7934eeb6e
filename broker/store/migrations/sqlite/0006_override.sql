-- What people have stopped, and whom the last good bundle let stop things.

-- Overrides in force.
CREATE TABLE override (
    id     TEXT    PRIMARY KEY,
    kind   TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    tenant TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    by     TEXT    NOT NULL,
    text   TEXT    NOT NULL
) STRICT;

-- Written with each activation of a bundle; they count when none is active. An empty tenant stands for everything.
CREATE TABLE stopper (
    spiffe_id TEXT NOT NULL,
    tenant    TEXT NOT NULL,
    PRIMARY KEY (spiffe_id, tenant)
) STRICT, WITHOUT ROWID;
