-- The directory: every imported entity as its API document; the snapshot is built from these.
CREATE TABLE directory (
    kind TEXT NOT NULL,
    id INTEGER NOT NULL,
    document TEXT NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0,
    updated_on TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);

-- One row; an import counts it up, a running daemon that sees it change loads the directory again.
CREATE TABLE directory_version (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    version INTEGER NOT NULL,
    -- Drawn at the first import; PINs are kept as digests made with it.
    pin_key TEXT NOT NULL DEFAULT ''
);
INSERT INTO directory_version (only_row, version) VALUES (1, 0);

CREATE TABLE checkins (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    unique_id TEXT NOT NULL UNIQUE,
    coworker_id INTEGER,
    coworker_full_name TEXT,
    business_id INTEGER NOT NULL,
    business_name TEXT,
    source INTEGER NOT NULL,
    from_time TEXT NOT NULL,
    to_time TEXT,
    counts_towards_plan_limits INTEGER NOT NULL DEFAULT 0,
    coworker_time_pass_guid TEXT,
    auto_checkout INTEGER NOT NULL DEFAULT 0,
    last_activity TEXT,
    mac_addresses TEXT,
    teams_at_the_time_of_checkin TEXT,
    tariff_at_the_time_of_checkin TEXT,
    validate_checkin_job_id TEXT,
    from_time_local TEXT NOT NULL,
    to_time_local TEXT,
    created_on TEXT NOT NULL,
    updated_on TEXT NOT NULL,
    updated_by TEXT NOT NULL,
    system_id TEXT,
    -- What the engine needs to go on where it stopped; no part of the API.
    door_in_at TEXT,
    strong_at TEXT,
    lingered_at TEXT,
    CHECK (to_time IS NULL OR to_time >= from_time)
);
-- The database has the last word: at most one open check-in per coworker and business.
CREATE UNIQUE INDEX checkins_one_open ON checkins (business_id, coworker_id) WHERE to_time IS NULL;
CREATE INDEX checkins_by_coworker ON checkins (business_id, coworker_id, from_time);
CREATE INDEX checkins_by_time ON checkins (business_id, from_time);

CREATE TABLE failed_checkins (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    unique_id TEXT NOT NULL UNIQUE,
    coworker_id INTEGER,
    coworker_full_name TEXT,
    business_id INTEGER NOT NULL,
    business_name TEXT,
    checkin_attempt_time TEXT NOT NULL,
    source INTEGER NOT NULL,
    mac_addresses TEXT,
    teams_at_the_time_of_checkin TEXT,
    tariff_at_the_time_of_checkin TEXT,
    description TEXT,
    checkin_attempt_time_local TEXT NOT NULL,
    created_on TEXT NOT NULL,
    updated_on TEXT NOT NULL,
    updated_by TEXT NOT NULL,
    system_id TEXT,
    -- The reason as a code, and what makes a repetition the same attempt: one row per key.
    code TEXT,
    once_key TEXT UNIQUE
);
CREATE INDEX failed_checkins_by_time ON failed_checkins (business_id, checkin_attempt_time);
CREATE INDEX failed_checkins_by_code ON failed_checkins (business_id, code, checkin_attempt_time);

-- Every door sighting, and every coalesced network presence, with what was decided and why.
CREATE TABLE sightings (
    key TEXT NOT NULL,
    business_id INTEGER NOT NULL,
    source TEXT NOT NULL,
    door TEXT,
    kind TEXT NOT NULL,
    direction TEXT,
    credential TEXT,
    mac TEXT,
    coworker_id INTEGER,
    event_at TEXT NOT NULL,
    last_at TEXT NOT NULL,
    strong_at TEXT,
    time_quality TEXT NOT NULL,
    received_at TEXT NOT NULL,
    decision TEXT NOT NULL,
    reason TEXT,
    checkin TEXT,
    frames INTEGER NOT NULL DEFAULT 0,
    -- Two sites may name a source alike.
    PRIMARY KEY (business_id, key)
) WITHOUT ROWID;
CREATE INDEX sightings_by_coworker ON sightings (coworker_id, event_at) WHERE coworker_id IS NOT NULL;
CREATE INDEX sightings_by_mac ON sightings (mac, event_at) WHERE mac IS NOT NULL;
CREATE INDEX sightings_by_time ON sightings (business_id, event_at);

-- Stretches during which the captures of a business could hear: silence is counted only inside them.
CREATE TABLE heard (
    id TEXT PRIMARY KEY,
    business_id INTEGER NOT NULL,
    from_time TEXT NOT NULL,
    to_time TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX heard_by_business ON heard (business_id, to_time);

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,
    administrator INTEGER NOT NULL DEFAULT 0,
    roles TEXT NOT NULL DEFAULT '',
    created_on TEXT NOT NULL,
    updated_on TEXT NOT NULL
) WITHOUT ROWID;

-- Only the SHA-256 of a token is kept.
CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    user_name TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    expires_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX tokens_by_user ON tokens (user_name);
