-- Lists by the time of the last change find most records by their time, and by these the others: corrected by hand, decided from
-- late facts, or of a long visit. A visit of a working day is not in them, so its taps do not write to them.
CREATE INDEX checkins_changed_late ON checkins ((max(created_on, updated_on)))
    WHERE julianday(max(created_on, updated_on)) - julianday(from_time) > 0.5;
CREATE INDEX failed_checkins_changed_late ON failed_checkins ((max(created_on, updated_on)))
    WHERE julianday(max(created_on, updated_on)) - julianday(checkin_attempt_time) > 0.5;
CREATE INDEX payg_charges_changed_late ON payg_charges ((max(created_on, updated_on)))
    WHERE julianday(max(created_on, updated_on)) - julianday(from_time) > 0.5;
-- By default they are sorted by time.
CREATE INDEX payg_charges_by_time ON payg_charges (business_id, from_time);
