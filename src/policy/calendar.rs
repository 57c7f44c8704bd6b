//! PURE. Pass days: from cut-off to cut-off on the business's wall clock, across both edges of daylight saving time.

use chrono::{Days, NaiveDate, NaiveDateTime, NaiveTime};
use serde::{Deserialize, Serialize};

use crate::base::{clock::WallTime, zone::Zone};

/// A business's wall clock and the local time at which its pass days end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// The IANA zone, with its rules.
    pub zone: Zone,
    /// Local time of the daily cut-off.
    pub cut_off: NaiveTime,
}

/// One pass day: `start` belongs to it, `end` (the next cut-off) does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PassDay {
    /// The cut-off that began it.
    pub start: WallTime,
    /// The cut-off that ends it.
    pub end: WallTime,
    /// The date that names it: of the two dates on the business's wall clock that it touches, the one with the larger
    /// part of it. With a cut-off before noon that is the date on which it begins, otherwise the next one.
    pub date: NaiveDate,
}

impl PassDay {
    /// Whether this instant is in the day.
    pub fn contains(&self, at: WallTime) -> bool {
        self.start <= at && at < self.end
    }
}

impl Calendar {
    /// The business's wall clock at this instant.
    pub fn local(&self, at: WallTime) -> NaiveDateTime {
        self.zone.local(at)
    }

    /// The pass day that an instant belongs to; 23 to 25 hours long if the clocks change.
    pub fn pass_day(&self, at: WallTime) -> PassDay {
        let today = self.local(at).date();
        let begins_on = if at < self.cut_off_on(today) { day_before(today) } else { today };
        self.beginning_on(begins_on)
    }

    /// The pass day that begins on a date.
    fn beginning_on(&self, date: NaiveDate) -> PassDay {
        let next = day_after(date);
        PassDay {
            start: self.cut_off_on(date),
            end: self.cut_off_on(next),
            date: if self.belongs_to_the_next_date() { next } else { date },
        }
    }

    /// Decided by the hour of the cut-off, not by the middle of the day: if clocks go back at midnight, two days would
    /// otherwise have one date.
    fn belongs_to_the_next_date(&self) -> bool {
        const NOON: NaiveTime = NaiveTime::from_hms_opt(12, 0, 0).expect("a time of day");
        self.cut_off >= NOON
    }

    /// The pass day with this date.
    pub fn day_of(&self, date: NaiveDate) -> PassDay {
        self.beginning_on(if self.belongs_to_the_next_date() { day_before(date) } else { date })
    }

    /// The instant of the cut-off on a date.
    fn cut_off_on(&self, date: NaiveDate) -> WallTime {
        self.instant(date.and_time(self.cut_off))
    }

    /// When the business's wall clock shows this local time. If the clocks skip it, the first instant after the gap; if
    /// it occurs twice, the first occurrence, so a cut-off never happens twice.
    pub fn instant(&self, local: NaiveDateTime) -> WallTime {
        self.zone.instant(local)
    }
}

fn day_before(date: NaiveDate) -> NaiveDate {
    date.checked_sub_days(Days::new(1)).unwrap_or(date)
}

fn day_after(date: NaiveDate) -> NaiveDate {
    date.checked_add_days(Days::new(1)).unwrap_or(date)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::zone::test_zone;
    use proptest::prelude::*;

    fn at(text: &str) -> WallTime {
        WallTime::from(text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time in the test"))
    }

    fn date(text: &str) -> NaiveDate {
        text.parse().expect("a date in the test")
    }

    fn calendar(zone: &str, hour: u32, minute: u32) -> Calendar {
        Calendar { zone: test_zone(zone), cut_off: NaiveTime::from_hms_opt(hour, minute, 0).expect("a time of day") }
    }

    #[test]
    fn an_ordinary_day_runs_from_cut_off_to_cut_off() {
        let london = calendar("Europe/London", 3, 0);
        let day =
            PassDay { start: at("2026-01-10T03:00:00Z"), end: at("2026-01-11T03:00:00Z"), date: date("2026-01-10") };
        for inside in ["2026-01-10T03:00:00Z", "2026-01-10T12:00:00Z", "2026-01-11T02:59:59Z"] {
            assert_eq!(london.pass_day(at(inside)), day, "{inside}");
        }
    }

    #[test]
    fn the_day_on_which_clocks_go_forward_has_23_hours() {
        let london = calendar("Europe/London", 0, 0);
        let day = london.pass_day(at("2026-03-29T12:00:00Z"));
        let (start, end) = (at("2026-03-29T00:00:00Z"), at("2026-03-29T23:00:00Z"));
        assert_eq!(day, PassDay { start, end, date: date("2026-03-29") });
    }

    #[test]
    fn the_day_on_which_clocks_go_back_has_25_hours() {
        let london = calendar("Europe/London", 0, 0);
        let day = london.pass_day(at("2026-10-25T12:00:00Z"));
        let (start, end) = (at("2026-10-24T23:00:00Z"), at("2026-10-26T00:00:00Z"));
        assert_eq!(day, PassDay { start, end, date: date("2026-10-25") });
    }

    #[test]
    fn a_cut_off_that_the_clocks_skip_is_the_first_instant_after_the_gap() {
        let london = calendar("Europe/London", 1, 30);
        assert_eq!(london.pass_day(at("2026-03-29T12:00:00Z")).start, at("2026-03-29T01:00:00Z"));
    }

    #[test]
    fn a_cut_off_that_happens_twice_is_its_first_occurrence() {
        let london = calendar("Europe/London", 1, 30);
        let day = london.pass_day(at("2026-10-25T12:00:00Z"));
        assert_eq!(day.start, at("2026-10-25T00:30:00Z"));
        assert_eq!(london.pass_day(at("2026-10-25T01:00:00Z")), day, "between the two occurrences of 01:30");
    }

    #[test]
    fn midnight_that_the_clocks_skip_is_found_too() {
        let santiago = calendar("America/Santiago", 0, 0);
        assert_eq!(santiago.pass_day(at("2026-09-06T12:00:00Z")).start, at("2026-09-06T04:00:00Z"));
    }

    #[test]
    fn a_day_is_called_by_the_date_on_which_more_of_it_lies() {
        for (hour, minute, instant, name) in [
            (3, 0, "2026-01-10T02:59:59Z", "2026-01-09"),
            (3, 0, "2026-01-10T03:00:00Z", "2026-01-10"),
            (11, 59, "2026-01-10T12:00:00Z", "2026-01-10"),
            (12, 0, "2026-01-10T12:00:00Z", "2026-01-11"),
            (18, 0, "2026-01-10T17:59:59Z", "2026-01-10"),
            (18, 0, "2026-01-10T18:00:00Z", "2026-01-11"),
            // Cut-offs that the clocks skip and repeat.
            (1, 30, "2026-03-29T12:00:00Z", "2026-03-29"),
            (1, 30, "2026-10-25T12:00:00Z", "2026-10-25"),
        ] {
            let day = calendar("Europe/London", hour, minute).pass_day(at(instant));
            assert_eq!(day.date, date(name), "{hour}:{minute} {instant}");
        }
    }

    #[test]
    fn no_two_days_have_one_date_where_clocks_go_back_at_midnight() {
        let santiago = calendar("America/Santiago", 12, 30);
        let mut day = santiago.pass_day(at("2026-04-02T20:00:00Z"));
        for expected in ["2026-04-03", "2026-04-04", "2026-04-05", "2026-04-06"] {
            assert_eq!(day.date, date(expected));
            assert_eq!(santiago.day_of(day.date), day);
            day = santiago.pass_day(day.end);
        }
    }

    proptest! {
        #[test]
        fn days_follow_each_other_without_gap_or_overlap(
            millis in 1_000_000_000_000i64..2_000_000_000_000,
            zone in prop::sample::select(vec!["Europe/London", "America/Santiago", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "UTC"]),
            minute in 0u32..1440,
        ) {
            let calendar = calendar(zone, minute / 60, minute % 60);
            let instant = WallTime::from_millis(millis);
            let day = calendar.pass_day(instant);
            prop_assert!(day.contains(instant));
            prop_assert_eq!(calendar.pass_day(day.start), day);
            prop_assert_eq!(calendar.pass_day(day.end).start, day.end);
            prop_assert_eq!(calendar.day_of(day.date), day);
            prop_assert_eq!(calendar.pass_day(day.start.minus(Duration::from_millis(1))).end, day.start);
        }
    }
}
