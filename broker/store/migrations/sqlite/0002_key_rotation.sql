-- Keys for several uses, with the times that operators are shown; and what operators asked for.

ALTER TABLE key_ring ADD COLUMN use         TEXT NOT NULL DEFAULT 'token';
ALTER TABLE key_ring ADD COLUMN published   INTEGER;
ALTER TABLE key_ring ADD COLUMN activated   INTEGER;
ALTER TABLE key_ring ADD COLUMN until       INTEGER;
ALTER TABLE key_ring ADD COLUMN endorsement TEXT NOT NULL DEFAULT '';
-- Nothing that a key signed lives longer than a day.
UPDATE key_ring SET until = since + 86400000000 WHERE state = 'retired';

-- A request to change the keys, by the caller's own id, and its answer; kept for a day.
CREATE TABLE key_request (
    caller     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    digest     TEXT    NOT NULL,
    answer     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (caller, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX key_request_at ON key_request (at);
