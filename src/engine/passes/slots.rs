//! PURE. When a kind of pass is valid: its weekly slots on the business's wall clock.

use std::time::Duration;

use chrono::{Datelike, Days, NaiveTime};

use crate::{
    base::clock::WallTime,
    directory::catalogue::{Slot, TimePass},
    engine::decision::Reason,
    policy::calendar::Calendar,
};

/// Until when the slots of a kind of pass cover an instant without a gap, searched up to `limit`; `None` if it has no
/// slots.
///
/// # Errors
/// [`Reason::PassOutsideHours`] if no slot covers it.
pub(super) fn slot_end(
    kind: &TimePass,
    calendar: &Calendar,
    at: WallTime,
    limit: WallTime,
) -> Result<Option<WallTime>, Reason> {
    if kind.slots.is_empty() {
        return Ok(None);
    }
    let mut end = at;
    // Each iteration moves on to a slot that ends later, and a pass day has only a few.
    while end < limit {
        let later = kind.slots.iter().filter_map(|slot| covered_until(*slot, calendar, end)).max();
        match later {
            Some(later) if later > end => end = later,
            Some(_) | None => break,
        }
    }
    if end > at { Ok(Some(end)) } else { Err(Reason::PassOutsideHours) }
}

/// The end of the slot if it covers the instant.
fn covered_until(slot: Slot, calendar: &Calendar, at: WallTime) -> Option<WallTime> {
    let today = calendar.local(at).date();
    let from = if slot.utc { local_minute(slot.from, calendar, today.year()) } else { slot.from };
    let on = |days_ago: u64| {
        let date = today.checked_sub_days(Days::new(days_ago))?;
        if date.weekday() != slot.weekday {
            return None;
        }
        let midnight = date.and_time(NaiveTime::MIN);
        let instant = |minutes: u16| calendar.instant(midnight + Duration::from_secs(u64::from(minutes) * 60));
        let (begin, end) = (instant(from), instant(from + (slot.to - slot.from)));
        (begin <= at && at < end).then_some(end)
    };
    // A slot that began yesterday may end today.
    [on(0), on(1)].into_iter().flatten().max()
}

/// Converts a time of day of the platform back to the minute on the wall clock. The platform writes times of day as
/// instants of January 1976, using the wall clock's offset. Here the offset is that of January of this year, because
/// zones have changed since.
fn local_minute(utc: u16, calendar: &Calendar, year: i32) -> u16 {
    let january = chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or_default().and_time(NaiveTime::MIN);
    let minutes = i64::from(utc) + (calendar.local(WallTime::from(january.and_utc())) - january).num_minutes();
    u16::try_from(minutes.rem_euclid(1440)).unwrap_or(0)
}

/// `Mon 09:00-13:00, Tue 22:00-02:00`.
pub(super) fn hours(kind: &TimePass, calendar: &Calendar, at: WallTime) -> String {
    let year = calendar.local(at).year();
    let mut slots: Vec<Slot> = kind.slots.to_vec();
    slots.sort_by_key(|slot| (slot.weekday.num_days_from_monday(), slot.from));
    let text = |slot: &Slot| {
        let from = if slot.utc { local_minute(slot.from, calendar, year) } else { slot.from };
        let face = |minutes: u16| format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60);
        format!("{} {}-{}", slot.weekday, face(from), face(from + (slot.to - slot.from)))
    };
    slots.iter().map(text).collect::<Vec<_>>().join(", ")
}
