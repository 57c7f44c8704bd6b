-- What a sighting said of its coworker, whatever their check-ins were, so that it can be decided again when an earlier
-- one arrives after it; null for lines that cannot be (nobody known, or written before this was kept).
ALTER TABLE sightings ADD COLUMN claim TEXT;
-- The presences that were merged into a line of the network.
ALTER TABLE sightings ADD COLUMN points TEXT;
-- The directory that it was decided by.
ALTER TABLE sightings ADD COLUMN directory_version BIGINT;

DROP INDEX sightings_by_coworker;
CREATE INDEX sightings_by_coworker ON sightings (coworker_id, business_id, last_at) WHERE coworker_id IS NOT NULL;
CREATE INDEX failed_checkins_by_coworker ON failed_checkins (coworker_id, business_id, checkin_attempt_time)
    WHERE coworker_id IS NOT NULL;
