-- Whether an edit has set the check-in.
ALTER TABLE checkins ADD COLUMN edited BOOLEAN NOT NULL DEFAULT FALSE;
-- Whether a user of the API wrote the failed check-in.
ALTER TABLE failed_checkins ADD COLUMN by_hand BOOLEAN NOT NULL DEFAULT FALSE;
-- Whether the check-in of the charge no longer exists, or costs nothing: billing must learn of it.
ALTER TABLE payg_charges ADD COLUMN withdrawn BOOLEAN NOT NULL DEFAULT FALSE;
