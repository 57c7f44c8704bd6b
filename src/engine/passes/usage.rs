//! PURE. What was used of passes and what counts towards plans: running totals, and visits that may still change.

use std::collections::BTreeMap;

use chrono::{NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    base::{clock::WallTime, record::CoworkerId},
    policy::calendar::PassDay,
};

/// A visit that [`Usage`] does not include yet, because it may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Whose.
    pub coworker: CoworkerId,
    /// The pass that it uses.
    pub pass: Option<Uuid>,
    /// Whether it counts towards the limits of the plan.
    pub counts: bool,
    /// In.
    pub from: WallTime,
    /// Out; `None` while open.
    pub to: Option<WallTime>,
    /// Its pass day.
    pub day: PassDay,
    /// The start of the last stretch of presence: the last return, if the day is one block.
    pub since: WallTime,
    /// Whole seconds of presence before that stretch.
    pub before: u64,
}

impl Spent {
    /// Whole seconds of presence up to `at`.
    pub fn present(&self, at: WallTime) -> u64 {
        self.before + self.to.unwrap_or(at).since(self.since).as_secs()
    }
}

/// What was used before: running totals of a size that does not depend on the length of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By pass: what each person has used of it.
    pub passes: BTreeMap<Uuid, Vec<Used>>,
    /// By person: what counts towards the limits of their plan.
    pub plans: BTreeMap<CoworkerId, PlanUsed>,
}

/// What one person has used of a pass since the import that last set what was left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Who.
    pub coworker: CoworkerId,
    /// When that import set it.
    pub basis_at: WallTime,
    /// Pass days that began since then.
    pub days: u32,
    /// The last pass day on which it was used, since then or before.
    pub last_day: Option<NaiveDate>,
    /// On which of the eight dates before `last_day` it was used, the latest first: a visit at a business with another
    /// cut-off may be counted for an earlier date than the visit before it.
    pub days_before: u8,
    /// Whole seconds of the visits that ended since then.
    pub seconds: u64,
    /// Since when a visit has been using it, if this is the only record of that visit.
    pub open: Option<WallTime>,
}

impl Used {
    /// Nothing used yet.
    pub const fn nothing(coworker: CoworkerId, basis_at: WallTime) -> Self {
        Self { coworker, basis_at, days: 0, last_day: None, days_before: 0, seconds: 0, open: None }
    }

    /// The days and seconds that count against what the import of `basis_at` set; zero if they are from before that
    /// import.
    pub(super) fn since(&self, basis_at: WallTime) -> (u32, u64) {
        if self.basis_at == basis_at { (self.days, self.seconds) } else { (0, 0) }
    }

    /// Whether it was used on this date. Also works for the eight dates before the last one.
    pub fn on(&self, date: NaiveDate) -> bool {
        let ago = self.last_day.map(|last| (last - date).num_days());
        ago == Some(0) || ago.and_then(bit_of).is_some_and(|bit| self.days_before & bit != 0)
    }

    fn note(&mut self, date: NaiveDate) {
        let ahead = self.last_day.map(|last| (date - last).num_days());
        match ahead {
            None => self.last_day = Some(date),
            Some(days @ 1..) => {
                let moved = u32::try_from(days).ok().and_then(|days| self.days_before.checked_shl(days)).unwrap_or(0);
                self.days_before = moved | bit_of(days).unwrap_or(0);
                self.last_day = Some(date);
            }
            Some(days) => self.days_before |= bit_of(-days).unwrap_or(0),
        }
    }

    /// Adds a visit that can no longer change.
    pub fn add(&mut self, visit: &Spent) {
        let date = visit.day.date;
        if !self.on(date) && visit.from >= self.basis_at {
            self.days += 1;
        }
        self.note(date);
        if visit.to.is_some_and(|to| to >= self.basis_at) {
            self.seconds += visit.present(visit.from);
        }
    }

    /// The same, counted from another import; starts at zero if that import set another value.
    #[must_use]
    pub fn based_on(self, basis_at: WallTime) -> Self {
        if self.basis_at == basis_at { self } else { Self { basis_at, days: 0, seconds: 0, ..self } }
    }
}

/// The bit of the date that is `days` before the last one.
fn bit_of(days: i64) -> Option<u8> {
    u32::try_from(days - 1).ok().and_then(|place| 1u8.checked_shl(place))
}

/// Days and whole seconds that count towards a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Pass days.
    pub days: u32,
    /// Seconds of presence.
    pub seconds: u64,
}

/// What an edit of an old visit adds to totals; negative if it takes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// Days.
    pub days: i64,
    /// Whole seconds.
    pub seconds: i64,
}

impl Shift {
    /// Days with the shift.
    pub fn of_days(self, days: u32) -> u32 {
        u32::try_from((i64::from(days) + self.days).max(0)).unwrap_or(u32::MAX)
    }

    /// Seconds with the shift.
    pub fn of_seconds(self, seconds: u64) -> u64 {
        seconds.saturating_add_signed(self.seconds)
    }
}

/// What counts towards the limits of a person's plan: running totals of all time, at the end of each of the last pass
/// days.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTally(Vec<(NaiveDate, Counted)>);

impl PlanTally {
    /// Pass days at two businesses can overlap although their dates are this far apart: time zones differ by up to 26
    /// hours, and cut-offs by up to 24. The totals of such days may still change; earlier ones are final.
    const STILL_CHANGING: TimeDelta = TimeDelta::days(3);

    /// The last final total, and those that may still change, earliest first.
    pub fn days(&self) -> &[(NaiveDate, Counted)] {
        &self.0
    }

    /// Shifts the totals of a date and of all later ones.
    pub fn shift(&mut self, date: NaiveDate, shift: Shift) {
        for (_, total) in self.0.iter_mut().filter(|(known, _)| *known >= date) {
            *total = Counted { days: shift.of_days(total.days), seconds: shift.of_seconds(total.seconds) };
        }
    }

    /// Adds a visit and returns the totals that it changes.
    pub fn add(&mut self, date: NaiveDate, seconds: u64) -> Vec<(NaiveDate, Counted)> {
        if self.0.is_empty() {
            // A later visit may be counted for an earlier day, and before that day there was nothing.
            let nothing_before = date.checked_sub_signed(Self::STILL_CHANGING).unwrap_or(date);
            self.0.push((nothing_before, Counted::default()));
        }
        let date = self.0.first().map_or(date, |(first, _)| date.max(*first));
        let at = self.0.partition_point(|(known, _)| *known < date);
        let new = self.0.get(at).is_none_or(|(known, _)| *known != date);
        if new {
            let before =
                at.checked_sub(1).and_then(|last| self.0.get(last)).map_or(Counted::default(), |(_, total)| *total);
            self.0.insert(at, (date, before));
        }
        for (_, total) in self.0.iter_mut().skip(at) {
            total.days += u32::from(new);
            total.seconds += seconds;
        }
        let changed = self.0.iter().skip(at).copied().collect();
        if let Some(final_before) = self.0.last().and_then(|(last, _)| last.checked_sub_signed(Self::STILL_CHANGING)) {
            let last_final = self.0.partition_point(|(known, _)| *known < final_before).saturating_sub(1);
            self.0.drain(..last_final);
        }
        changed
    }
}

/// Running totals towards one person's plan, by pass day, including the last one before the window of every limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanUsed(pub BTreeMap<NaiveDate, Counted>);

impl PlanUsed {
    /// The total from the first day of a window to the day before its end.
    pub(super) fn within(&self, first: NaiveDate, end: NaiveDate) -> Counted {
        let before = |day: NaiveDate| self.0.range(..day).next_back().map(|(_, total)| *total).unwrap_or_default();
        let (to, from) = (before(end), before(first));
        Counted { days: to.days - from.days, seconds: to.seconds - from.seconds }
    }
}
