-- Facts that the database did not take when they were decided, each as the log would hold it: kept for people, never folded.
CREATE TABLE set_aside (
    day BIGINT NOT NULL,
    subject BIGINT NOT NULL,
    at BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    business_id BIGINT NOT NULL,
    arrived BOOLEAN NOT NULL,
    payload BYTEA NOT NULL,
    -- When it was set aside, in milliseconds since 1970, and what the database answered.
    set_aside_at BIGINT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (day, subject, at, digest)
);
-- A fact without a time of its own that is delivered again.
CREATE UNIQUE INDEX set_aside_arrived ON set_aside (digest) WHERE arrived = TRUE;
CREATE INDEX set_aside_by_time ON set_aside (business_id, set_aside_at);
CREATE INDEX set_aside_by_subject ON set_aside (subject);
