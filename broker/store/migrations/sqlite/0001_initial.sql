-- The log, and everything that hangs on it. Times are microseconds since 1970, UTC.

-- One row: the log's name, the key of its cursors, and its tail (audit/tree.py, Frontier.to_bytes).
CREATE TABLE log (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    id         TEXT    NOT NULL,
    cursor_key BLOB    NOT NULL CHECK (length(cursor_key) = 32),
    size       INTEGER NOT NULL CHECK (size >= 0),
    frontier   BLOB    NOT NULL,
    policy     TEXT    NOT NULL
) STRICT;

-- Events, as the exact bytes that were hashed. Positions begin at 0 and have no gaps.
CREATE TABLE event (
    position INTEGER PRIMARY KEY,
    content  BLOB NOT NULL,
    leaf     BLOB NOT NULL CHECK (length(leaf) = 32)
) STRICT;

-- The largest complete subtree that ends at each 256th event: the tail can be checked without reading the log.
CREATE TABLE subtree (
    position INTEGER PRIMARY KEY,
    hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- Personal values behind the commitments of an event. Deleting a row erases the value and leaves every proof whole.
CREATE TABLE opening (
    position INTEGER NOT NULL,
    field    TEXT    NOT NULL,
    value    BLOB    NOT NULL,
    salt     BLOB    NOT NULL CHECK (length(salt) = 32),
    PRIMARY KEY (position, field)
) STRICT, WITHOUT ROWID;

-- Signed checkpoints: the newest, and of the older ones those that verification narrows a fault down with.
CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;

CREATE TABLE task (
    id           TEXT    PRIMARY KEY,
    agent        TEXT    NOT NULL,
    begun_by     TEXT    NOT NULL,
    tenant       TEXT    NOT NULL,
    purpose      TEXT    NOT NULL,
    conversation TEXT    NOT NULL,
    begun_at     INTEGER NOT NULL,
    deadline     INTEGER NOT NULL,
    ended_at     INTEGER
) STRICT;
CREATE INDEX task_due ON task (deadline) WHERE ended_at IS NULL;
CREATE INDEX task_ended ON task (deadline) WHERE ended_at IS NOT NULL;

-- Grants, until they expire.
CREATE TABLE granted (
    number         INTEGER PRIMARY KEY,
    credential     TEXT    NOT NULL UNIQUE,
    agent          TEXT    NOT NULL,
    tenant         TEXT    NOT NULL,
    task           TEXT    NOT NULL,
    transaction_id TEXT    NOT NULL,
    scope          TEXT    NOT NULL,
    intent_digest  TEXT    NOT NULL,
    thumbprint     TEXT    NOT NULL,
    audience       TEXT    NOT NULL,
    status_index   INTEGER NOT NULL,
    policies       TEXT    NOT NULL,
    issued_at      INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    use            TEXT    NOT NULL,
    request_id     TEXT    NOT NULL
) STRICT;
CREATE INDEX granted_agent ON granted (agent, expires_at);
CREATE INDEX granted_tenant ON granted (tenant, expires_at);
CREATE INDEX granted_task ON granted (task, expires_at) WHERE task <> '';
CREATE INDEX granted_expiry ON granted (expires_at);
CREATE UNIQUE INDEX granted_request ON granted (agent, request_id) WHERE request_id <> '';

-- Which policies permitted a grant.
CREATE TABLE granted_policy (
    policy TEXT    NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (policy, number)
) STRICT, WITHOUT ROWID;

-- Revocation rules in force: kind, a space, and the name.
CREATE TABLE revocation (
    id     TEXT    PRIMARY KEY,
    rule   TEXT    NOT NULL,
    tenant TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    by     TEXT    NOT NULL
) STRICT;
CREATE INDEX revocation_rule ON revocation (rule);

-- Credentials that ended before they expired, by the event that ended them; lifting a rule does not bring them back.
CREATE TABLE revoked (
    credential   TEXT    PRIMARY KEY,
    position     INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    rule         TEXT    NOT NULL,
    agent        TEXT    NOT NULL,
    audience     TEXT    NOT NULL,
    status_index INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX revoked_audience ON revoked (audience, position);
CREATE INDEX revoked_agent ON revoked (agent, position);
CREATE INDEX revoked_expiry ON revoked (expires_at);

-- The next free status index of each audience.
CREATE TABLE status_index (
    audience TEXT    PRIMARY KEY,
    next     INTEGER NOT NULL
) STRICT;

-- The key ring, without private keys.
CREATE TABLE key_ring (
    kid        TEXT    PRIMARY KEY,
    public_jwk TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    since      INTEGER NOT NULL
) STRICT;
