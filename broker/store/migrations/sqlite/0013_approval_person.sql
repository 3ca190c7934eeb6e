-- Whom a request waits for, where that is nobody but the person of its task: what an agent asks one of its users is
-- counted without a walk through what it asks all the others.

ALTER TABLE approval ADD COLUMN person TEXT NOT NULL DEFAULT '';
UPDATE approval SET person = (SELECT person FROM task WHERE task.id = approval.task)
    WHERE state IN ('pending', 'withdrawn')
    AND EXISTS (SELECT 1 FROM task WHERE task.id = approval.task)
    AND NOT EXISTS (
        SELECT 1 FROM json_each(requirements) AS each WHERE json_extract(each.value, '$.kind') = 'group'
    );
CREATE INDEX approval_waiting ON approval (agent, person, state, pending_until);
