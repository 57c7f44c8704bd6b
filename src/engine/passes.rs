//! PURE. May this person be let in by what they hold: limits of the plan, then their passes, then pay-as-you-go.
//!
//! What was used before is handed in: [`Usage`] from the database, [`Spent`] for visits that are being decided now. Never
//! here: who it is and whether they belong here (`engine::admission`), and the life of the check-in (`engine`).

mod choice;
mod limits;
pub mod payg;

pub use limits::window_starts;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::decision::Reason;
use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CheckinSource, CoworkerId, TimePassId},
    },
    directory::{
        Coworker, Directory,
        catalogue::{Moment, TimePass},
    },
    policy::{
        calendar::{Calendar, PassDay},
        passes::PassPolicy,
    },
};

/// Who asks to be let in.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who.
    pub coworker: &'a Coworker,
    /// Where.
    pub business: BusinessId,
    /// By door or network.
    pub by: CheckinSource,
    /// When.
    pub at: WallTime,
    /// Since when they have been there: what is used of a pass counts from here.
    pub from: WallTime,
    /// The pass of a visit elsewhere that this entry has ended: it goes on, if it is good here.
    pub continued: Option<Uuid>,
}

/// Why somebody may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entitlement {
    /// Passes are not asked for at this site.
    Unchecked,
    /// By this pass.
    Pass(PassUse),
}

/// The pass that a visit uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassUse {
    /// `CoworkerTimePass.UniqueId`; none for pay-as-you-go, where nobody holds a pass: the caller makes one of the visit's
    /// own identity.
    pub guid: Option<Uuid>,
    /// The kind of pass.
    pub time_pass: TimePassId,
    /// How it is used.
    pub kind: PassKind,
    /// Does the visit count towards the limits of the plan?
    pub counts_towards_plan_limits: bool,
    /// When and why it stops covering the visit, if that is before the pass day ends.
    pub ends: Option<(WallTime, PassEnd)>,
}

/// How a pass is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PassKind {
    /// The day is paid, from cut-off to cut-off.
    Day,
    /// Minutes are used while the visit lasts.
    Time,
    /// The visit is charged: [`payg::charge`].
    PayAsYouGo,
}

impl PassKind {
    /// The word that the database stores.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Time => "time",
            Self::PayAsYouGo => "pay_as_you_go",
        }
    }

    /// From the database's word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Day, Self::Time, Self::PayAsYouGo].into_iter().find(|kind| kind.word() == word)
    }
}

/// Why a pass stops covering a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PassEnd {
    /// Its minutes are used up.
    MinutesUsedUp,
    /// The weekday's slot ends.
    SlotEnds,
    /// It expires.
    Expires,
    /// A limit of the plan is reached.
    LimitReached,
}

impl PassEnd {
    /// The word that the database stores.
    pub const fn word(self) -> &'static str {
        match self {
            Self::MinutesUsedUp => "minutes_used_up",
            Self::SlotEnds => "slot_ends",
            Self::Expires => "expires",
            Self::LimitReached => "limit_reached",
        }
    }

    /// From the database's word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::MinutesUsedUp, Self::SlotEnds, Self::Expires, Self::LimitReached]
            .into_iter()
            .find(|end| end.word() == word)
    }
}

/// Why somebody may not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code and sentence.
    pub reason: Reason,
    /// What the front desk needs besides: which pass expired when, which limit was reached.
    pub detail: Option<Arc<str>>,
}

/// A visit that [`Usage`] does not hold yet, because it may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Whose.
    pub coworker: CoworkerId,
    /// The pass that it uses.
    pub pass: Option<Uuid>,
    /// Does it count towards the limits of the plan?
    pub counts: bool,
    /// In.
    pub from: WallTime,
    /// Out; none while open.
    pub to: Option<WallTime>,
    /// Its pass day.
    pub day: PassDay,
    /// The beginning of the last stretch of presence: of a day that is one block, the last return.
    pub since: WallTime,
    /// Whole seconds of presence in the stretches before.
    pub before: u64,
}

impl Spent {
    /// Whole seconds of presence up to `at`.
    pub fn present(&self, at: WallTime) -> u64 {
        self.before + self.to.unwrap_or(at).since(self.since).as_secs()
    }
}

/// What was used before: running totals, whose size does not depend on how long the history is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By pass: what each person has used of it.
    pub passes: BTreeMap<Uuid, Vec<Used>>,
    /// By person: what counts towards the limits of their plan.
    pub plans: BTreeMap<CoworkerId, PlanUsed>,
}

/// What one person has used of a pass since an import last said what was left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Who.
    pub coworker: CoworkerId,
    /// When the import said it.
    pub basis_at: WallTime,
    /// Pass days that began since.
    pub days: u32,
    /// The last pass day with it, since then or before.
    pub last_day: Option<NaiveDate>,
    /// Which of the eight dates before that were pass days with it, the last first: a visit at a business with another cut-off
    /// may be counted for an earlier date than one before it.
    pub days_before: u8,
    /// Whole seconds of the visits that ended since.
    pub seconds: u64,
    /// Since when a visit with it is open, where that is known only from here.
    pub open: Option<WallTime>,
}

impl Used {
    /// Nothing yet.
    pub const fn nothing(coworker: CoworkerId, basis_at: WallTime) -> Self {
        Self { coworker, basis_at, days: 0, last_day: None, days_before: 0, seconds: 0, open: None }
    }

    /// What of it counts against what an import said at `basis_at`: nothing, if it said so afterwards.
    fn since(&self, basis_at: WallTime) -> (u32, u64) {
        if self.basis_at == basis_at { (self.days, self.seconds) } else { (0, 0) }
    }

    /// Was it used on this date, as far back as that can still be asked?
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

    /// Adds a visit that will not change any more.
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

    /// The same, counted from another import on, if it said something else.
    #[must_use]
    pub fn based_on(self, basis_at: WallTime) -> Self {
        if self.basis_at == basis_at { self } else { Self { basis_at, days: 0, seconds: 0, ..self } }
    }
}

/// The bit of a date that lies so many days before the last.
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

/// What counts towards the limits of somebody's plan: running totals since ever, at the end of each of the last pass days.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTally(Vec<(NaiveDate, Counted)>);

impl PlanTally {
    /// Pass days at two businesses may have dates so far apart and still overlap: time zones differ by up to 26 hours, and
    /// cut-offs by up to 24. The totals of such days may still change; earlier ones are final.
    const STILL_CHANGING: TimeDelta = TimeDelta::days(3);

    /// The last total that is final, and those that may still change, earliest first.
    pub fn days(&self) -> &[(NaiveDate, Counted)] {
        &self.0
    }

    /// Adds a visit; hands back the totals that it changes.
    pub fn add(&mut self, date: NaiveDate, seconds: u64) -> Vec<(NaiveDate, Counted)> {
        if self.0.is_empty() {
            // A later visit may be counted for an earlier day, before which there was nothing.
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

/// Running totals towards one person's plan, by pass day: with the last before the window of every limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanUsed(pub BTreeMap<NaiveDate, Counted>);

impl PlanUsed {
    /// From the first day of a window to the day before its end.
    fn within(&self, first: NaiveDate, end: NaiveDate) -> Counted {
        let before = |day: NaiveDate| self.0.range(..day).next_back().map(|(_, total)| *total).unwrap_or_default();
        let (to, from) = (before(end), before(first));
        Counted { days: to.days - from.days, seconds: to.seconds - from.seconds }
    }
}

/// May they come in, and by which pass?
///
/// The limits of the plan come first and are hard, also for whoever holds spare passes; then what they hold, in the
/// order of `src/docs/passes.md`; then pay-as-you-go.
///
/// # Errors
/// Why not. Where several passes fail, the reason is that of the nearest miss.
pub fn entitle(
    directory: &Directory,
    policy: &PassPolicy,
    calendar: &Calendar,
    ask: &Ask<'_>,
    usage: &Usage,
    also: &[Spent],
) -> Result<Entitlement, Refused> {
    if !policy.asks(directory) {
        return Ok(Entitlement::Unchecked);
    }
    let case = PassCase { directory, calendar, ask, day: calendar.pass_day(ask.at), usage, also };
    let rest = limits::check(&case, policy)?;
    let missed = match choice::choose(&case) {
        Ok(mut found) => {
            found.end_within(&case, rest);
            return Ok(Entitlement::Pass(found));
        }
        // A pass that is good at the door is no reason to charge whoever carries a phone past it.
        Err(choice::NoPassFits { nearest: Some(missed), good_at_a_door: true }) => return Err(missed),
        Err(missed) => missed.nearest,
    };
    let missed = match policy.pay_as_you_go.as_ref().map(|rules| payg::cheapest(&case, rules)) {
        Some(Ok(mut found)) => {
            found.end_within(&case, rest);
            return Ok(Entitlement::Pass(found));
        }
        Some(Err(also_missed)) => missed.or(also_missed),
        None => missed,
    };
    Err(missed.unwrap_or(Refused { reason: Reason::NoValidPass, detail: None }))
}

/// Until when somebody who is in may stay by the pass that let them in: `ask.at` is now, `ask.from` when they came in.
///
/// # Errors
/// Why it is no good any more.
pub fn lasting(
    directory: &Directory,
    policy: &PassPolicy,
    calendar: &Calendar,
    ask: &Ask<'_>,
    usage: &Usage,
    also: &[Spent],
    (pass, day): (&PassUse, PassDay),
) -> Result<PassUse, Refused> {
    if !policy.asks(directory) {
        return Ok(PassUse { ends: None, ..pass.clone() });
    }
    let case = PassCase { directory, calendar, ask, day, usage, also };
    let rest = limits::check(&case, policy)?;
    let gone = || Refused { reason: Reason::NoValidPass, detail: None };
    let mut found = match (pass.guid, &policy.pay_as_you_go) {
        (Some(guid), _) => choice::only(&case, guid).ok_or_else(gone)?,
        (None, Some(rules)) => payg::only(&case, rules, pass.time_pass).ok_or_else(gone)?,
        // No charge is made any more; what was agreed when they came in stays.
        (None, None) if directory.time_pass(pass.time_pass).is_none_or(|kind| kind.archived) => return Err(gone()),
        (None, None) => return Ok(pass.clone()),
    };
    // What was true when they came in stays.
    found.counts_towards_plan_limits = pass.counts_towards_plan_limits;
    found.end_within(&case, rest);
    Ok(found)
}

/// All that one question is about.
struct PassCase<'a> {
    directory: &'a Directory,
    calendar: &'a Calendar,
    ask: &'a Ask<'a>,
    day: PassDay,
    usage: &'a Usage,
    also: &'a [Spent],
}

impl PassCase<'_> {
    /// Is this kind of pass of any use to this customer here, whenever it may be?
    fn fits(&self, kind: &TimePass) -> Result<(), Reason> {
        let coworker = self.ask.coworker;
        let member = coworker.is_member();
        let plan = || coworker.tariff_id.is_some_and(|tariff| kind.tariffs.contains(&tariff));
        if kind.archived {
            Err(Reason::PassArchived)
        } else if kind.only_for_members && !member
            || kind.only_for_contacts && member
            || !kind.tariffs.is_empty() && !plan()
        {
            Err(Reason::PassNotForCustomer)
        } else if !kind.places.cover(self.ask.business) {
            Err(Reason::PassOtherBusiness)
        } else {
            Ok(())
        }
    }

    /// Is it of use now, and until when?
    fn fits_now(&self, kind: &TimePass) -> Result<Option<WallTime>, Reason> {
        let until = choice::slot_end(kind, self.calendar, self.ask.at, self.day.end)?;
        if self.ask.by == CheckinSource::NetworkActivity && !kind.allow_network_checkin {
            return Err(Reason::PassNoNetwork);
        }
        Ok(until)
    }

    /// An instant on the wall clock, for people.
    fn face(&self, at: WallTime) -> String {
        self.calendar.local(at).format("%Y-%m-%d %H:%M").to_string()
    }

    /// When something that was imported ends; a date means the pass day.
    fn end_of(&self, moment: Moment) -> WallTime {
        match moment {
            Moment::Instant(at) => at,
            Moment::Date(date) => self.calendar.day_of(date).end,
        }
    }
}

impl PassUse {
    /// Ends it where the plan's hours end, if it counts towards them, and forgets an end that the cut-off comes before.
    fn end_within(&mut self, case: &PassCase<'_>, rest: Option<u64>) {
        if let Some(rest) = rest.filter(|_| self.counts_towards_plan_limits) {
            let end = (case.ask.from.plus(Duration::from_secs(rest)), PassEnd::LimitReached);
            self.ends = Some(self.ends.map_or(end, |known| known.min(end)));
        }
        self.ends = self.ends.filter(|(at, _)| *at < case.day.end);
    }
}

#[cfg(test)]
mod tests;
