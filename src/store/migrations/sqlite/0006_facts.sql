-- The log: what was said to have happened, clustered by day and subject, so that a person's day is a few pages side by side.
-- Days are days since 1970 (UTC), times are milliseconds since 1970.
CREATE TABLE facts (
    day INTEGER NOT NULL,
    -- A coworker; below zero a credential that belongs to no one; 0 the business.
    subject INTEGER NOT NULL,
    at INTEGER NOT NULL,
    digest BLOB NOT NULL,
    business_id INTEGER NOT NULL,
    -- at is when it came, because it has no time of its own.
    arrived INTEGER NOT NULL,
    -- What became of it, for people; never an input.
    decision INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (day, subject, at, digest)
) WITHOUT ROWID;
CREATE UNIQUE INDEX facts_arrived ON facts (digest) WHERE arrived = TRUE;

-- Everybody as they are now, with the next instant at which something happens by itself.
CREATE TABLE standings (
    subject INTEGER PRIMARY KEY,
    -- Where they are in, and so who watches the deadline; null when they are out.
    business_id INTEGER,
    deadline INTEGER,
    -- Of the open visit; the API reads it from here.
    last_activity INTEGER,
    folded_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE INDEX standings_due ON standings (business_id, deadline) WHERE deadline IS NOT NULL;

-- Everybody as they were before the first event of a day: where a late fact is folded from.
CREATE TABLE checkpoints (
    day INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    state BLOB NOT NULL,
    PRIMARY KEY (day, subject)
) WITHOUT ROWID;

-- Presences that no fact of the log holds yet.
CREATE TABLE presences (
    subject INTEGER NOT NULL,
    device INTEGER NOT NULL,
    business_id INTEGER NOT NULL,
    interface TEXT NOT NULL,
    at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    points BLOB NOT NULL,
    PRIMARY KEY (subject, device, business_id)
) WITHOUT ROWID;

-- What people used of passes that others may use too, since an import said what was left of them.
CREATE TABLE pass_usage (
    pass TEXT NOT NULL,
    subject INTEGER NOT NULL,
    basis_at INTEGER NOT NULL,
    days INTEGER NOT NULL,
    last_day INTEGER,
    -- A bit for each of the eight dates before that.
    days_before INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    open_from INTEGER,
    PRIMARY KEY (pass, subject)
) WITHOUT ROWID;

-- What counts towards plan limits, in all up to the end of each day.
CREATE TABLE plan_usage (
    subject INTEGER NOT NULL,
    day INTEGER NOT NULL,
    days INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    PRIMARY KEY (subject, day)
) WITHOUT ROWID;

-- The directory as it was: when each version came into force, and the documents that later ones replaced.
CREATE TABLE directory_versions (
    version INTEGER PRIMARY KEY,
    in_force INTEGER NOT NULL
);
INSERT INTO directory_versions (version, in_force) SELECT version, 0 FROM directory_version WHERE version > 0;
ALTER TABLE directory ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
CREATE TABLE directory_past (
    kind TEXT NOT NULL,
    id INTEGER NOT NULL,
    -- The versions in which it was in force: from this one on, before that one.
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    document TEXT NOT NULL,
    archived INTEGER NOT NULL,
    said_on TEXT NOT NULL,
    PRIMARY KEY (kind, id, until)
) WITHOUT ROWID;

-- What each site decides by, and decided by.
CREATE TABLE site_policies (
    number INTEGER PRIMARY KEY,
    business_id INTEGER NOT NULL,
    in_force INTEGER NOT NULL,
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
