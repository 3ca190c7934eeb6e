-- What a task may ever touch, how often it must be heard of, and for whom it was begun.

ALTER TABLE task ADD COLUMN type      TEXT    NOT NULL DEFAULT '';
-- JSON, as broker/boundary.py writes it.
ALTER TABLE task ADD COLUMN boundary  TEXT    NOT NULL DEFAULT '{}';
ALTER TABLE task ADD COLUMN heartbeat INTEGER;
ALTER TABLE task ADD COLUMN silent_at INTEGER;
ALTER TABLE task ADD COLUMN revision  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN person    TEXT    NOT NULL DEFAULT '';
ALTER TABLE task ADD COLUMN asked     TEXT    NOT NULL DEFAULT '';
CREATE INDEX task_silent ON task (silent_at) WHERE ended_at IS NULL AND silent_at IS NOT NULL;

-- Of a grant within a task: what its scope does not say of its intent, and the bundle that decided.
ALTER TABLE granted ADD COLUMN declared TEXT NOT NULL DEFAULT '{}';
ALTER TABLE granted ADD COLUMN bundle   TEXT NOT NULL DEFAULT '';
