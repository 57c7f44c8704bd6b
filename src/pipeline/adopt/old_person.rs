//! PURE. Derives a person's state from the records of an earlier version: the current state, and the state at the
//! beginning of each day to which a late fact may belong.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use uuid::Uuid;

use super::old_log::{DayTrace, OldLog, PersonTrace};
use crate::{
    base::{
        clock::WallTime,
        fact::{FactOrder, LogDay, TapId},
        record::{BusinessId, CoworkerId},
    },
    engine::{
        decision::Reason,
        passes::{Counted, PlanTally, Used, payg::Charged},
        person::{ChargedDay, PersonState, Pinned, RefusedDevice, STILL_OPEN_TO_CHANGE, Visit},
    },
    store::{OldCharge, OldRecords, OldRefusal, OldVisit},
};

/// A person's states, adopted from an earlier version.
#[derive(Debug, Default)]
pub(super) struct AdoptedPerson {
    pub(super) now: PersonState,
    pub(super) checkpoints: Vec<(LogDay, PersonState)>,
    /// Totals towards plan limits up to the end of each day.
    pub(super) counted: Vec<(NaiveDate, Counted)>,
    /// Usage of passes that others may use too.
    pub(super) shared: Vec<(Uuid, Used)>,
}

impl OldLog<'_> {
    /// A person's states, from their records and from the lines about them.
    pub(super) fn person(&self, coworker: CoworkerId, records: &mut OldRecords) -> AdoptedPerson {
        let mut visits = records.visits.remove(&coworker).unwrap_or_default();
        // Closed visits in the future were stamped by a wrong clock.
        let latest = self.latest();
        visits.retain(|visit| visit.from <= latest || visit.to.is_none());
        visits.sort_by_key(|visit| (visit.from, visit.unique_id));
        let refusals = records.refusals.remove(&coworker).unwrap_or_default();
        let trace = self.traces.get(&coworker);
        let mut person = OldPerson {
            log: self,
            coworker,
            trace,
            refusals: &refusals,
            charges: &records.charges,
            totals: OldTotals::default(),
            kept: Vec::new(),
        };
        // For each day: add the visits that began before it, settle those that can no longer change, then take the
        // state.
        let mut left = visits.iter().peekable();
        let mut first_of_day: BTreeSet<(BusinessId, WallTime)> = BTreeSet::new();
        let mut adopted = AdoptedPerson::default();
        for day in self.days(&visits, trace) {
            while let Some(old) = left.next_if(|old| old.from < day.start()) {
                person.push(self.visit(old, &mut first_of_day), Some(day));
            }
            person.settle(Some(day));
            adopted.checkpoints.push((day, person.state_at(Some(day))));
        }
        for old in left {
            person.push(self.visit(old, &mut first_of_day), None);
        }
        person.settle(None);
        adopted.now = person.state_at(None);
        adopted.shared = self.shared(coworker, &adopted.now);
        adopted.counted = std::mem::take(&mut person.totals.counted_days).into_iter().collect();
        adopted
    }

    /// The days that get a checkpoint: from the first to the last on which anything happened to the person.
    fn days(&self, visits: &[OldVisit], trace: Option<&PersonTrace>) -> impl Iterator<Item = LogDay> + use<> {
        let today = LogDay::of(self.now);
        let mut days: Vec<LogDay> = trace.iter().flat_map(|trace| trace.days.keys()).map(|(day, _)| *day).collect();
        for visit in visits {
            let last = self.ended_at(visit).map_or(today, LogDay::of);
            if last >= self.first_day {
                days.extend([LogDay::of(visit.from).max(self.first_day), last]);
            }
        }
        days.retain(|day| *day >= self.first_day && *day <= LogDay(today.0 + 1));
        let span = days.iter().min().copied().zip(days.iter().max().copied());
        span.into_iter().flat_map(|(from, to)| from.0..=to.0).map(LogDay)
    }

    /// When a visit was ended: if by a silence, when the silence had lasted long enough.
    fn ended_at(&self, visit: &OldVisit) -> Option<WallTime> {
        visit.to.map(|to| self.ended.get(&visit.unique_id).map_or(to, |ended| to.max(*ended)))
    }

    fn visit<'v>(
        &self,
        old: &'v OldVisit,
        first_of_day: &mut BTreeSet<(BusinessId, WallTime)>,
    ) -> (&'v OldVisit, Visit) {
        let day = self.calendar(old.business, old.from).pass_day(old.from);
        let visit = Visit {
            unique_id: old.unique_id,
            business: old.business,
            source: old.source,
            from: old.from,
            admitted_at: old.from,
            to: old.to,
            day,
            auto_checkout: old.auto_checkout,
            // Whether the pass ended it is not recorded. If something else did, this has no effect.
            pass_ended: old.auto_checkout,
            last_activity: old.last_activity,
            macs: old.macs.clone(),
            door_in_at: old.door_in_at,
            strong_at: old.strong_at,
            lingered_at: old.lingered_at,
            pass: old.pass.clone(),
            first_of_day: first_of_day.insert((old.business, day.start)),
            since: old.from,
            before: 0,
            pinned: Pinned::No,
        };
        (old, visit)
    }

    /// A person's usage of passes that others may use too: shared passes, and those of other holders.
    fn shared(&self, coworker: CoworkerId, person: &PersonState) -> Vec<(Uuid, Used)> {
        let shares = self.directory.who_share_passes_with(coworker).len() > 1;
        let read_by_others =
            |pass: &Uuid| self.passes.get(pass).is_some_and(|(holder, _)| shares || *holder != coworker);
        let basis_of = |pass| self.passes.get(&pass).map(|(_, basis_at)| *basis_at);
        person.uses(coworker, read_by_others, basis_of).into_iter().collect()
    }
}

/// The totals of the visits that can no longer change.
#[derive(Debug, Default)]
struct OldTotals {
    used: Vec<(Uuid, Used)>,
    counted: PlanTally,
    counted_days: BTreeMap<NaiveDate, Counted>,
    charged: Vec<ChargedDay>,
    let_in: BTreeMap<BusinessId, WallTime>,
    /// The last pass day with a visit at each business.
    last_day: BTreeMap<BusinessId, WallTime>,
    latest: Option<WallTime>,
}

/// One person, while their visits are added in chronological order.
struct OldPerson<'a> {
    log: &'a OldLog<'a>,
    coworker: CoworkerId,
    trace: Option<&'a PersonTrace>,
    refusals: &'a [OldRefusal],
    charges: &'a BTreeMap<Uuid, OldCharge>,
    totals: OldTotals,
    /// Visits that may still change.
    kept: Vec<(&'a OldVisit, Visit)>,
}

impl<'a> OldPerson<'a> {
    /// Adds the next visit; `day` as in [`Self::state_at`].
    fn push(&mut self, visit: (&'a OldVisit, Visit), day: Option<LogDay>) {
        self.kept.push(visit);
        self.settle(day);
    }

    /// Moves visits that can no longer change from `kept` to the totals: the oldest that have ended, beyond the number
    /// that a state keeps.
    fn settle(&mut self, day: Option<LogDay>) {
        while self.kept.len() > STILL_OPEN_TO_CHANGE {
            let over = |(old, _): &(&OldVisit, Visit)| match day {
                None => old.to.is_some(),
                Some(day) => self.log.ended_at(old).is_some_and(|ended| ended < day.start()),
            };
            let Some(oldest) = self.kept.iter().position(over) else { return };
            let (_, visit) = self.kept.remove(oldest);
            self.count(&visit);
        }
    }

    fn count(&mut self, visit: &Visit) {
        let (log, totals) = (self.log, &mut self.totals);
        // The use of the pass.
        let date = visit.day.date;
        let spent = visit.spent(self.coworker);
        if let Some((pass, (_, basis_at))) = visit.held_pass().and_then(|pass| Some((pass, log.passes.get(&pass)?))) {
            let known = totals.used.iter().position(|(known, _)| *known == pass).map(|at| totals.used.remove(at).1);
            let mut used = known.unwrap_or(Used::nothing(self.coworker, *basis_at));
            used.add(&spent);
            totals.used.push((pass, used));
        }
        // The totals towards plan limits.
        if visit.counts() {
            totals.counted_days.extend(totals.counted.add(date, spent.present(visit.from)));
        }
        // The charge: only those of the latest pass day at each business matter.
        if let Some(charge) = self.charges.get(&visit.unique_id) {
            let (business, day) = (visit.business, charge.pass_day);
            totals.charged.retain(|known| known.business != business || known.day >= day);
            let charged = totals.charged.iter_mut().find(|known| known.business == business && known.day == day);
            match charged {
                Some(known) => known.charged.add(charge.time_pass, charge.unbounded, charge.amount),
                None => {
                    let mut charged = Charged::default();
                    charged.add(charge.time_pass, charge.unbounded, charge.amount);
                    totals.charged.push(ChargedDay { business, day, charged });
                }
            }
        }
        let last_day = totals.last_day.entry(visit.business).or_insert(visit.day.start);
        *last_day = visit.day.start.max(*last_day);
        if let Some(entry) = visit.door_in_at {
            let known = totals.let_in.entry(visit.business).or_insert(entry);
            *known = entry.max(*known);
        }
        totals.latest = totals.latest.max(Some(latest_of(visit)));
    }

    /// The state at the beginning of `day`, or the current state if it is `None`.
    fn state_at(&self, day: Option<LogDay>) -> PersonState {
        let visits: Vec<Visit> = self.kept.iter().map(|(old, visit)| self.visit_at(old, visit, day)).collect();
        // The last entries: those of counted visits and of visits that may still change.
        let mut let_in = self.totals.let_in.clone();
        for visit in &visits {
            if let Some(entry) = visit.door_in_at {
                let known = let_in.entry(visit.business).or_insert(entry);
                *known = entry.max(*known);
            }
        }
        // The place up to which the person is folded: just after the last line or record.
        let before = |at: &LogDay| day.is_none_or(|day| *at < day);
        let traces = self.trace.iter().flat_map(|trace| &trace.days).filter(|((at, _), _)| before(at));
        let (mut any, mut silent_at) = (None, None);
        for ((_, business), trace) in traces {
            any = any.max(trace.any);
            let silent = trace.silent.map(|at| (*business, at));
            silent_at = [silent_at, silent].into_iter().flatten().max_by_key(|(_, at)| *at);
        }
        let latest = visits.iter().map(latest_of).max().max(self.totals.latest).max(any);
        let end = day.map_or(self.log.latest(), |day| day.start().moved(-1));
        let mut came = self.totals.last_day.clone();
        for visit in &visits {
            let known = came.entry(visit.business).or_insert(visit.day.start);
            *known = visit.day.start.max(*known);
        }
        PersonState {
            folded: latest.map_or(FactOrder::FIRST, |latest| FactOrder::before(latest.moved(1).min(end))),
            directory: self.log.directory.version,
            silent_at,
            visits: in_order(visits),
            taps: self.taps_at(day),
            let_in: let_in.into_iter().collect(),
            refused: self.refused_at(day),
            used: self.totals.used.clone(),
            counted: self.totals.counted.clone(),
            charged: self.totals.charged.clone(),
            came: came.into_iter().collect(),
            edits: Vec::new(),
            absent_until: Vec::new(),
        }
    }

    /// A visit as it was at the beginning of a day: open if it ended later, with the evidence so far.
    fn visit_at(&self, old: &OldVisit, visit: &Visit, day: Option<LogDay>) -> Visit {
        let Some(start) = day.map(LogDay::start) else { return visit.clone() };
        let known = |at: Option<WallTime>| at.filter(|at| *at < start);
        if self.log.ended_at(old).is_some_and(|ended| ended < start) {
            return Visit { lingered_at: known(visit.lingered_at), ..visit.clone() };
        }
        let seen = self.seen(visit, LogDay::of(start));
        // The lines do not reach back to its beginning, so only the record has evidence from then.
        let unknown = visit.from < self.log.since();
        let then = |at: Option<WallTime>, seen: Option<WallTime>, else_at: WallTime| {
            known(at).or(seen).or(at.filter(|_| unknown).map(|_| else_at))
        };
        let last = seen.last.unwrap_or(if unknown { start } else { visit.from });
        Visit {
            to: None,
            auto_checkout: false,
            pass_ended: false,
            lingered_at: None,
            last_activity: last.min(visit.last_activity).max(visit.from),
            strong_at: then(visit.strong_at, seen.strong, start.moved(-1)),
            door_in_at: then(visit.door_in_at, seen.entry, visit.from),
            macs: if unknown { visit.macs.clone() } else { visit.macs.intersection(&seen.macs).copied().collect() },
            ..visit.clone()
        }
    }

    /// The evidence for a visit before a day.
    fn seen(&self, visit: &Visit, day: LogDay) -> DayTrace {
        let since = |at: Option<WallTime>| at.filter(|at| *at >= visit.from);
        let mut seen = DayTrace::default();
        let days = LogDay::of(visit.from)..day;
        let traces = self.trace.iter().flat_map(|trace| &trace.days);
        for (_, trace) in traces.filter(|((at, business), _)| days.contains(at) && *business == visit.business) {
            seen.last = seen.last.max(since(trace.last));
            seen.strong = seen.strong.max(since(trace.strong));
            seen.entry = seen.entry.max(since(trace.entry));
            seen.macs.extend(&trace.macs);
        }
        seen
    }

    fn taps_at(&self, day: Option<LogDay>) -> Vec<(TapId, WallTime)> {
        let Some(trace) = self.trace else { return Vec::new() };
        let Some(day) = day else { return trace.taps.clone() };
        let of_day = trace.days.iter().filter(|((at, _), _)| at.0 + 1 == day.0);
        of_day.flat_map(|(_, trace)| &trace.taps).copied().collect()
    }

    /// Devices that were refused in the pass day of the beginning of `day`, or in the current one if it is `None`.
    fn refused_at(&self, day: Option<LogDay>) -> Vec<RefusedDevice> {
        let at = day.map_or(self.log.now, LogDay::start);
        let of_day = self.refusals.iter().filter(|refusal| day.is_none() || refusal.at < at).filter_map(|refusal| {
            let calendar = self.log.calendar(refusal.business, refusal.at);
            let start = calendar.pass_day(refusal.at).start;
            let reason = Reason::from_code(&refusal.code).filter(|_| start == calendar.pass_day(at).start)?;
            Some((refusal, reason, start))
        });
        let device = |(refusal, reason, day): (&OldRefusal, Reason, WallTime)| {
            let business = refusal.business;
            refusal.macs.clone().into_iter().map(move |mac| RefusedDevice { business, day, reason, mac })
        };
        of_day.flat_map(device).collect()
    }
}

/// Puts the ended visits first, earliest first, because they move to the totals from the front; the open one follows.
/// An earlier version let a person be in at two sites at once: they are where the latest activity was.
fn in_order(mut visits: Vec<Visit>) -> Vec<Visit> {
    visits.sort_by_key(|visit| visit.is_open().then_some(std::cmp::Reverse(visit.last_activity)));
    visits
}

fn latest_of(visit: &Visit) -> WallTime {
    let times = [visit.to, visit.lingered_at, visit.door_in_at, visit.strong_at];
    times.into_iter().flatten().chain([visit.from, visit.last_activity]).max().unwrap_or(visit.from)
}
