-- Held requests, and what people said of them. Closed ones are kept for a week.

CREATE TABLE approval (
    -- In the order in which they were asked for.
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT    NOT NULL UNIQUE,
    agent         TEXT    NOT NULL,
    tenant        TEXT    NOT NULL,
    task          TEXT    NOT NULL,
    task_type     TEXT    NOT NULL,
    action        TEXT    NOT NULL,
    action_class  TEXT    NOT NULL,
    resource_type TEXT    NOT NULL,
    audience      TEXT    NOT NULL,
    -- The canonical object, JSON; and its digest.
    intent        TEXT    NOT NULL,
    intent_digest TEXT    NOT NULL,
    nonce         TEXT    NOT NULL,
    -- JSON, as broker/policy/step_up.py writes each.
    requirements  TEXT    NOT NULL,
    policies      TEXT    NOT NULL,
    scope         TEXT    NOT NULL,
    lifetime      INTEGER NOT NULL,
    requested_at  INTEGER NOT NULL,
    pending_until INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    -- JSON: what each person said.
    answers       TEXT    NOT NULL,
    decided_at    INTEGER,
    usable_until  INTEGER,
    escalated     TEXT    NOT NULL,
    escalate_at   INTEGER,
    bypass_until  INTEGER,
    text          TEXT    NOT NULL,
    revision      INTEGER NOT NULL,
    -- Position of the event of the last change.
    changed       INTEGER NOT NULL
) STRICT;
CREATE INDEX approval_same ON approval (agent, task, intent_digest, number);
CREATE INDEX approval_pending ON approval (agent) WHERE state = 'pending';
CREATE INDEX approval_task ON approval (task) WHERE task <> '';
CREATE INDEX approval_due ON approval (pending_until) WHERE state = 'pending';
CREATE INDEX approval_usable ON approval (usable_until) WHERE state = 'approved';
CREATE INDEX approval_escalation ON approval (escalate_at) WHERE state = 'pending' AND escalate_at IS NOT NULL;
CREATE INDEX approval_state ON approval (state, number);
CREATE INDEX approval_changed ON approval (changed);
CREATE INDEX approval_age ON approval (requested_at);

-- The approval that a credential was given on, or whose bypass let it pass.
ALTER TABLE granted ADD COLUMN approval TEXT NOT NULL DEFAULT '';
