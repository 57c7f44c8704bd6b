-- Who holds a pass: what was in force earlier is read for the few people of whom something comes late.
ALTER TABLE directory ADD COLUMN holder INTEGER;
ALTER TABLE directory_past ADD COLUMN holder INTEGER;
UPDATE directory SET holder = document->>'$.CoworkerId' WHERE kind = 'coworker_time_pass';
UPDATE directory_past SET holder = document->>'$.CoworkerId' WHERE kind = 'coworker_time_pass';
CREATE INDEX directory_by_holder ON directory (holder) WHERE holder IS NOT NULL;
CREATE INDEX directory_past_by_holder ON directory_past (holder) WHERE holder IS NOT NULL;
