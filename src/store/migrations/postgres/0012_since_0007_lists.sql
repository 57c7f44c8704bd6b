-- Lists by the time of the last change find most records by their time, and by these the others: corrected by hand, decided from
-- late facts, or of a long visit. A visit of a working day is not in them, so its taps do not write to them.
CREATE INDEX checkins_changed_late ON checkins ((greatest(created_on, updated_on)))
    WHERE greatest(created_on, updated_on) - from_time > interval '12 hours';
CREATE INDEX failed_checkins_changed_late ON failed_checkins ((greatest(created_on, updated_on)))
    WHERE greatest(created_on, updated_on) - checkin_attempt_time > interval '12 hours';
CREATE INDEX payg_charges_changed_late ON payg_charges ((greatest(created_on, updated_on)))
    WHERE greatest(created_on, updated_on) - from_time > interval '12 hours';
-- By default they are sorted by time.
CREATE INDEX payg_charges_by_time ON payg_charges (business_id, from_time);
