-- The last thing that the log knows of each coworker, or later: what comes from before it is late. Asked for everybody of
-- a batch; kept here because an index of the log by coworker has a page of its own for each of them, and a batch would write
-- them all.
CREATE TABLE frontiers (
    business_id BIGINT NOT NULL,
    coworker_id BIGINT NOT NULL,
    last_at TIMESTAMPTZ(3) NOT NULL,
    PRIMARY KEY (business_id, coworker_id)
);
INSERT INTO frontiers (business_id, coworker_id, last_at)
    SELECT business_id, coworker_id, max(last_at) FROM sightings
    WHERE coworker_id IS NOT NULL AND (claim IS NOT NULL OR kind = 'timer') GROUP BY business_id, coworker_id;

-- For what is decided again, which is asked for by time, and of many at once.
DROP INDEX sightings_by_coworker;
CREATE INDEX sightings_by_last ON sightings (business_id, last_at, coworker_id) WHERE coworker_id IS NOT NULL;
