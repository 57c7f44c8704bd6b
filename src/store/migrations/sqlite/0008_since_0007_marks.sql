-- The last transaction of each gateway. A gateway that finds an earlier one than it remembers knows that the database
-- has been restored, or that a failover discarded commits.
CREATE TABLE marks (
    -- The random id of the gateway's spool.
    gateway TEXT PRIMARY KEY,
    -- Counts the gateway's transactions.
    turn INTEGER NOT NULL,
    -- Every message of the spool up to this place is committed.
    place INTEGER NOT NULL
);
-- After a restore, two versions may have the same number, so each also has a random id.
ALTER TABLE directory_versions ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE site_policies ADD COLUMN id TEXT NOT NULL DEFAULT '';
UPDATE directory_versions SET id = lower(hex(randomblob(16)));
UPDATE site_policies SET id = lower(hex(randomblob(16)));
