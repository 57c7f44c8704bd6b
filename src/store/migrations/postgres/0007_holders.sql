-- Who holds a pass: what was in force earlier is read for the few people of whom something comes late.
ALTER TABLE directory ADD COLUMN holder BIGINT;
ALTER TABLE directory_past ADD COLUMN holder BIGINT;
UPDATE directory SET holder = CAST(CAST(document AS jsonb)->>'CoworkerId' AS bigint) WHERE kind = 'coworker_time_pass';
UPDATE directory_past SET holder = CAST(CAST(document AS jsonb)->>'CoworkerId' AS bigint)
    WHERE kind = 'coworker_time_pass';
CREATE INDEX directory_by_holder ON directory (holder) WHERE holder IS NOT NULL;
CREATE INDEX directory_past_by_holder ON directory_past (holder) WHERE holder IS NOT NULL;
