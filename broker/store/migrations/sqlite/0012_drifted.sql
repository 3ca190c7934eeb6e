-- Drifted tasks that wait for a person to look at them: one of a task, forgotten with it.

CREATE TABLE drifted (
    -- In the order in which they began to wait.
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    task        TEXT    NOT NULL UNIQUE,
    agent       TEXT    NOT NULL,
    tenant      TEXT    NOT NULL,
    told        TEXT    NOT NULL,
    since       INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    refusals    INTEGER NOT NULL,
    within      INTEGER NOT NULL,
    -- JSON, as the next one.
    reasons     TEXT    NOT NULL,
    actions     TEXT    NOT NULL,
    times       INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    escalated   TEXT    NOT NULL,
    escalate_at INTEGER,
    -- Position of the event of the last change.
    changed     INTEGER NOT NULL
) STRICT;
CREATE INDEX drifted_open ON drifted (number) WHERE state = 'open';
CREATE INDEX drifted_escalation ON drifted (escalate_at) WHERE state = 'open' AND escalate_at IS NOT NULL;
CREATE INDEX drifted_changed ON drifted (changed);

-- What was refused, so that whoever is told can see it.
ALTER TABLE drift ADD COLUMN action TEXT NOT NULL DEFAULT '';
