-- Approvals are asked about by agent and state, and counted where people have answered: not by walking all that an agent
-- ever asked for.

DROP INDEX approval_pending;
CREATE INDEX approval_agent ON approval (agent, state, pending_until);
CREATE INDEX approval_answered ON approval (agent, state) WHERE usable_until IS NOT NULL OR state = 'denied';
