-- What an import said was left of a pass, and when it said something else before: what was used since then is taken off.
ALTER TABLE directory ADD COLUMN basis TEXT;
ALTER TABLE directory ADD COLUMN basis_at TEXT;

-- The beginning of the pass day, and the whole seconds of a visit that is over: what passes and limits are counted by.
ALTER TABLE checkins ADD COLUMN pass_day TEXT;
ALTER TABLE checkins ADD COLUMN seconds INTEGER;
-- The pass that covers the visit: its kind, how it is used, when it stops covering the visit and why.
ALTER TABLE checkins ADD COLUMN time_pass_id INTEGER;
ALTER TABLE checkins ADD COLUMN pass_kind TEXT;
ALTER TABLE checkins ADD COLUMN pass_ends TEXT;
ALTER TABLE checkins ADD COLUMN pass_end TEXT;
CREATE INDEX checkins_by_pass ON checkins (coworker_time_pass_guid, pass_day) WHERE coworker_time_pass_guid IS NOT NULL;
CREATE INDEX checkins_by_limit ON checkins (coworker_id, pass_day) WHERE counts_towards_plan_limits = TRUE;

-- What a visit without a pass costs: one row per check-in, provisional while it is open.
CREATE TABLE payg_charges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The unique_id of the check-in.
    checkin TEXT NOT NULL UNIQUE,
    coworker_id INTEGER NOT NULL,
    business_id INTEGER NOT NULL,
    time_pass_id INTEGER NOT NULL,
    pass_day TEXT NOT NULL,
    from_time TEXT NOT NULL,
    to_time TEXT,
    minutes INTEGER NOT NULL,
    -- Minor units of the currency; unbounded is before the minimum and maximum of the day.
    unbounded INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    final INTEGER NOT NULL DEFAULT 0,
    created_on TEXT NOT NULL,
    updated_on TEXT NOT NULL,
    CHECK (amount >= 0)
);
CREATE INDEX payg_charges_by_coworker ON payg_charges (business_id, coworker_id, pass_day);
