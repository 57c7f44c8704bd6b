//! PURE. How much of a person's plan is left: days and hours, in the week, the month and the billing cycle.
//!
//! A day is a pass day, however often a person comes. Weeks, months and cycles consist of whole pass days, by their
//! dates on the business's wall clock. Only visits that count towards the limits are counted, at all businesses. A day
//! that has begun stays valid to its end.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{Datelike, Months, NaiveDate, TimeDelta, Weekday};

use super::{
    case::PassCase,
    pass_use::Refused,
    usage::{Counted, PlanUsed},
};
use crate::{
    directory::{
        Coworker, Directory,
        catalogue::{Cycle, Limits, Moment, Tariff},
    },
    engine::decision::{PlanLimit, Reason},
    policy::{calendar::Calendar, passes::PassPolicy},
};

/// The day from which cycles are counted for people without a day of their own. It never changes: otherwise a cycle of
/// two weeks would begin again every week, and one of five months every year.
const SINCE: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");

/// A range of pass days: the first day, and the day after the last.
pub(super) type PlanWindow = (NaiveDate, NaiveDate);

/// The seconds left of the plan's hours; `None` if they are not limited.
///
/// # Errors
/// The limit that is reached.
pub(super) fn check(case: &PassCase<'_>, policy: &PassPolicy) -> Result<Option<u64>, Refused> {
    let coworker = case.ask.coworker;
    let tariff = coworker.tariff_id.and_then(|tariff| case.directory.tariff(tariff));
    let Some(tariff) = tariff.filter(|tariff| tariff.has_limits()) else { return Ok(None) };
    let today = case.day.date;
    let windows = Windows::around(today, tariff.cycle, anchor(coworker, case.calendar), policy.week_starts_on);
    let mut rest = None;
    for limit in PlanLimit::ALL {
        let Some((allowed, (first, end))) = windows.of(limit, tariff) else { continue };
        let (counted, began_today) = counted(case, (first, end), today);
        let left = if limit.is_hours() {
            let left = (u64::from(allowed) * 3600).saturating_sub(counted.seconds);
            rest = Some(rest.map_or(left, |rest: u64| rest.min(left)));
            left > 0
        } else {
            began_today || counted.days < allowed
        };
        if !left {
            return Err(reached(limit, tariff, allowed, first, end));
        }
    }
    Ok(rest)
}

/// The first day of each window in which the limits of a person's plan are counted on `today`; empty without limits.
pub fn window_starts(
    directory: &Directory,
    policy: &PassPolicy,
    calendar: &Calendar,
    coworker: &Coworker,
    today: NaiveDate,
) -> BTreeSet<NaiveDate> {
    let tariff = coworker.tariff_id.and_then(|tariff| directory.tariff(tariff));
    let Some(tariff) = tariff.filter(|tariff| tariff.has_limits()) else { return BTreeSet::new() };
    let windows = Windows::around(today, tariff.cycle, anchor(coworker, calendar), policy.week_starts_on);
    PlanLimit::ALL.into_iter().filter_map(|limit| windows.of(limit, tariff)).map(|(_, (first, _))| first).collect()
}

/// What counts in a window, and whether today already counts. A pass day of another business may already be in the next
/// window.
fn counted(case: &PassCase<'_>, (first, end): PlanWindow, today: NaiveDate) -> (Counted, bool) {
    let (id, at) = (case.ask.coworker.id, case.ask.at);
    let nothing = PlanUsed::default();
    let known = case.usage.plans.get(&id).unwrap_or(&nothing);
    let mut counted = known.within(first, end);
    let mut began: BTreeSet<NaiveDate> = known.0.keys().copied().collect();
    for visit in case.also.iter().filter(|visit| visit.coworker == id && visit.counts) {
        if (first..end).contains(&visit.day.date) {
            counted.days += u32::from(began.insert(visit.day.date));
            counted.seconds += visit.present(at);
        }
    }
    (counted, began.contains(&today))
}

fn reached(limit: PlanLimit, tariff: &Tariff, allowed: u32, first: NaiveDate, end: NaiveDate) -> Refused {
    let unit = if limit.is_hours() { "hour" } else { "day" };
    let plural = if allowed == 1 { "" } else { "s" };
    let last = end.pred_opt().unwrap_or(end);
    let detail: Arc<str> = format!("\"{}\": {allowed} {unit}{plural} from {first} to {last}", tariff.name).into();
    Refused { reason: Reason::PlanLimit(limit), detail: Some(detail) }
}

/// The day from which a person's billing cycles are counted, if they have one of their own.
fn anchor(coworker: &Coworker, calendar: &Calendar) -> Option<NaiveDate> {
    coworker.renews.map(|moment| match moment {
        Moment::Date(date) => date,
        Moment::Instant(at) => calendar.local(at).date(),
    })
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Windows {
    week: PlanWindow,
    month: PlanWindow,
    pub(super) cycle: PlanWindow,
}

impl Windows {
    pub(super) fn around(today: NaiveDate, cycle: Cycle, anchor: Option<NaiveDate>, week_starts_on: Weekday) -> Self {
        let week = today.week(week_starts_on).first_day();
        let month = today.with_day(1).unwrap_or(today);
        Self {
            week: (week, days_after(week, 7)),
            month: (month, months_after(month, 1)),
            cycle: match cycle {
                Cycle::Weeks(weeks) => {
                    let anchor = anchor.unwrap_or_else(|| SINCE.week(week_starts_on).first_day());
                    in_weeks(today, anchor, i64::from(weeks.max(1)))
                }
                Cycle::Months(months) => {
                    in_months(today, anchor.unwrap_or(SINCE), i32::try_from(months.max(1)).unwrap_or(i32::MAX))
                }
            },
        }
    }

    /// How much the plan allows, and in which window; `None` if it has no such limit.
    fn of(&self, limit: PlanLimit, tariff: &Tariff) -> Option<(u32, PlanWindow)> {
        let Limits { week, month, cycle } = if limit.is_hours() { tariff.hours } else { tariff.days };
        let (allowed, window) = match limit {
            PlanLimit::DaysWeek | PlanLimit::HoursWeek => (week, self.week),
            PlanLimit::DaysMonth | PlanLimit::HoursMonth => (month, self.month),
            PlanLimit::DaysCycle | PlanLimit::HoursCycle => (cycle, self.cycle),
        };
        allowed.map(|allowed| (allowed, window))
    }
}

pub(super) fn in_weeks(today: NaiveDate, anchor: NaiveDate, weeks: i64) -> PlanWindow {
    let length = weeks.saturating_mul(7);
    let first = days_after(anchor, (today - anchor).num_days().div_euclid(length) * length);
    (first, days_after(first, length))
}

/// Every cycle is counted from the anchor, so after a short month the 31st is the 31st again.
pub(super) fn in_months(today: NaiveDate, anchor: NaiveDate, months: i32) -> PlanWindow {
    let between = (today.year() - anchor.year()).saturating_mul(12) + month_number(today) - month_number(anchor);
    let begin = |cycles: i32| months_after(anchor, cycles.saturating_mul(months));
    let cycles = between.div_euclid(months);
    let cycles = if begin(cycles) > today { cycles - 1 } else { cycles };
    (begin(cycles), begin(cycles + 1))
}

fn month_number(date: NaiveDate) -> i32 {
    i32::try_from(date.month()).unwrap_or(1)
}

fn months_after(date: NaiveDate, months: i32) -> NaiveDate {
    let by = Months::new(months.unsigned_abs());
    let moved = if months < 0 { date.checked_sub_months(by) } else { date.checked_add_months(by) };
    moved.unwrap_or(if months < 0 { NaiveDate::MIN } else { NaiveDate::MAX })
}

fn days_after(date: NaiveDate, days: i64) -> NaiveDate {
    TimeDelta::try_days(days).and_then(|days| date.checked_add_signed(days)).unwrap_or(NaiveDate::MAX)
}
