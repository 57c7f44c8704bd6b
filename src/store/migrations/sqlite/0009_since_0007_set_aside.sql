-- Facts that the database did not take when they were decided, each as the log would hold it: kept for people, never folded.
CREATE TABLE set_aside (
    day INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    business_id INTEGER NOT NULL,
    arrived INTEGER NOT NULL,
    payload BLOB NOT NULL,
    -- When it was set aside, in milliseconds since 1970, and what the database answered.
    set_aside_at INTEGER NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (day, subject, at, digest)
) WITHOUT ROWID;
-- A fact without a time of its own that is delivered again.
CREATE UNIQUE INDEX set_aside_arrived ON set_aside (digest) WHERE arrived = TRUE;
CREATE INDEX set_aside_by_time ON set_aside (business_id, set_aside_at);
CREATE INDEX set_aside_by_subject ON set_aside (subject);
