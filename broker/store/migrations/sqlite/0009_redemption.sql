-- Credentials that were spent; kept as long as their grants.
CREATE TABLE redemption (
    credential  TEXT    PRIMARY KEY,
    key         TEXT    NOT NULL,
    call_digest TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
