-- What services report of the credentials that are for them, and tasks that drift.

-- Credentials that have expired, as long as services may still report on them. Numbers rise with expiry.
CREATE TABLE reportable (
    number         INTEGER PRIMARY KEY,
    credential     TEXT    NOT NULL UNIQUE,
    audience       TEXT    NOT NULL,
    agent          TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    task           TEXT    NOT NULL,
    transaction_id TEXT    NOT NULL,
    expires_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX reportable_expiry ON reportable (expires_at);

-- Reports that were counted, each once; forgotten with the credential that they are about.
CREATE TABLE report (
    number     INTEGER PRIMARY KEY,
    service    TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    credential TEXT    NOT NULL,
    use        TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    digest     TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    UNIQUE (service, id)
) STRICT;
CREATE INDEX report_credential ON report (credential, use);
CREATE INDEX report_dropped ON report (at) WHERE credential = '';

-- Since when nothing is given in a task, until it is resumed.
ALTER TABLE task ADD COLUMN suspended_at INTEGER;

-- The last refusals of what lies outside a task.
CREATE TABLE drift (
    number INTEGER PRIMARY KEY,
    task   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    reason TEXT    NOT NULL
) STRICT;
CREATE INDEX drift_task ON drift (task);
