-- What adds up under limits, and what is remembered of grants for separate duties and sequences.

-- One row for each limit of a policy and each subject (a task, a conversation, an agent, an agent's day).
-- Numbers are never given twice: a charge may outlive its counter.
CREATE TABLE counter (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    subject   TEXT    NOT NULL,
    policy    TEXT    NOT NULL,
    place     INTEGER NOT NULL,
    per       TEXT    NOT NULL,
    parameter TEXT    NOT NULL,
    total     INTEGER NOT NULL CHECK (total >= 0),
    ends      INTEGER,
    UNIQUE (subject, policy, place, per, parameter)
) STRICT;
CREATE INDEX counter_ends ON counter (ends) WHERE ends IS NOT NULL;

-- What each grant was charged, until it is given back, or for a week.
CREATE TABLE charge (
    number     INTEGER PRIMARY KEY,
    credential TEXT    NOT NULL,
    counter    INTEGER NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount >= 0),
    at         INTEGER NOT NULL
) STRICT;
CREATE INDEX charge_credential ON charge (credential);

-- Which actions of separate duties were granted in a task.
CREATE TABLE granted_action (
    task   TEXT NOT NULL,
    action TEXT NOT NULL,
    PRIMARY KEY (task, action)
) STRICT, WITHOUT ROWID;

-- How far a task or a conversation has come in a sequence.
CREATE TABLE sequence_step (
    subject  TEXT    NOT NULL,
    sequence TEXT    NOT NULL,
    taken    INTEGER NOT NULL,
    ends     INTEGER,
    PRIMARY KEY (subject, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX sequence_step_ends ON sequence_step (ends) WHERE ends IS NOT NULL;
