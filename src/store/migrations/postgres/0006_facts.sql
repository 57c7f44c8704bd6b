-- The log: what was said to have happened, clustered by day and subject, so that a person's day is a few pages side by side.
-- Days are days since 1970 (UTC), times are milliseconds since 1970.
CREATE TABLE facts (
    day BIGINT NOT NULL,
    -- A coworker; below zero a credential that belongs to no one; 0 the business.
    subject BIGINT NOT NULL,
    at BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    business_id BIGINT NOT NULL,
    -- at is when it came, because it has no time of its own.
    arrived BOOLEAN NOT NULL,
    -- What became of it, for people; never an input.
    decision BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    PRIMARY KEY (day, subject, at, digest)
);
CREATE UNIQUE INDEX facts_arrived ON facts (digest) WHERE arrived = TRUE;

-- Everybody as they are now, with the next instant at which something happens by itself.
CREATE TABLE standings (
    subject BIGINT PRIMARY KEY,
    -- Where they are in, and so who watches the deadline; null when they are out.
    business_id BIGINT,
    deadline BIGINT,
    -- Of the open visit; the API reads it from here.
    last_activity BIGINT,
    folded_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    state BYTEA NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX standings_due ON standings (business_id, deadline) WHERE deadline IS NOT NULL;

-- Everybody as they were before the first event of a day: where a late fact is folded from.
CREATE TABLE checkpoints (
    day BIGINT NOT NULL,
    subject BIGINT NOT NULL,
    state BYTEA NOT NULL,
    PRIMARY KEY (day, subject)
);

-- Presences that no fact of the log holds yet.
CREATE TABLE presences (
    subject BIGINT NOT NULL,
    device BIGINT NOT NULL,
    business_id BIGINT NOT NULL,
    interface TEXT NOT NULL,
    at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    points BYTEA NOT NULL,
    PRIMARY KEY (subject, device, business_id)
) WITH (fillfactor = 70);

-- What people used of passes that others may use too, since an import said what was left of them.
CREATE TABLE pass_usage (
    pass UUID NOT NULL,
    subject BIGINT NOT NULL,
    basis_at BIGINT NOT NULL,
    days BIGINT NOT NULL,
    last_day BIGINT,
    -- A bit for each of the eight dates before that.
    days_before BIGINT NOT NULL,
    seconds BIGINT NOT NULL,
    open_from BIGINT,
    PRIMARY KEY (pass, subject)
);

-- What counts towards plan limits, in all up to the end of each day.
CREATE TABLE plan_usage (
    subject BIGINT NOT NULL,
    day BIGINT NOT NULL,
    days BIGINT NOT NULL,
    seconds BIGINT NOT NULL,
    PRIMARY KEY (subject, day)
);

-- The directory as it was: when each version came into force, and the documents that later ones replaced.
CREATE TABLE directory_versions (
    version BIGINT PRIMARY KEY,
    in_force BIGINT NOT NULL
);
INSERT INTO directory_versions (version, in_force) SELECT version, 0 FROM directory_version WHERE version > 0;
ALTER TABLE directory ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
CREATE TABLE directory_past (
    kind TEXT NOT NULL,
    id BIGINT NOT NULL,
    -- The versions in which it was in force: from this one on, before that one.
    since BIGINT NOT NULL,
    until BIGINT NOT NULL,
    document TEXT NOT NULL,
    archived BOOLEAN NOT NULL,
    said_on TIMESTAMPTZ(3) NOT NULL,
    PRIMARY KEY (kind, id, until)
);

-- What each site decides by, and decided by.
CREATE TABLE site_policies (
    number BIGINT PRIMARY KEY,
    business_id BIGINT NOT NULL,
    in_force BIGINT NOT NULL,
    policy TEXT NOT NULL
);

ALTER TABLE heard RENAME TO coverage;
DROP TABLE frontiers;
DROP INDEX checkins_by_pass;
DROP INDEX checkins_by_limit;
DROP INDEX checkins_by_coworker;
CREATE INDEX checkins_by_coworker ON checkins (coworker_id, from_time) WHERE coworker_id IS NOT NULL;
DROP INDEX failed_checkins_by_coworker;
CREATE INDEX failed_checkins_by_coworker ON failed_checkins (coworker_id, checkin_attempt_time) WHERE coworker_id IS NOT NULL;
DROP INDEX payg_charges_by_coworker;
CREATE INDEX payg_charges_by_coworker ON payg_charges (coworker_id, from_time);
