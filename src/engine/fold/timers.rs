//! PURE. What ends visits between facts: silence, the cut-off, the end of a pass and a new version of the directory.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    folding::Folding,
    item::{FoldItem, What},
    records::Repassed,
    world::World,
};
use crate::{
    base::{
        clock::WallTime,
        fact::{FactDigest, FactOrder, FactRank, Subject},
        record::BusinessId,
    },
    engine::{
        Claim,
        admission::{self, DoorVerdict},
        decision::Outcome,
        life::CloseBy,
        person::{EditBoundary, EndedVisit, PersonState, PinnedVisit, Visit},
    },
};

/// What the passing of time does to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// Their open visit ends, or at [`CloseBy::PinnedEnd`] its pinned span.
    Close(CloseBy),
    /// Something begins that an edit has set.
    Boundary,
}

impl Folding<'_> {
    /// The people who leave by a door at the very instant when a timer ends their visit. Such an exit comes before the
    /// timer: controllers with clocks that only show minutes date every exit of the last minute like this.
    pub(super) fn leaving<'i>(
        &mut self,
        rest: impl Iterator<Item = &'i FoldItem<'i>>,
        at: WallTime,
    ) -> BTreeSet<Subject> {
        let mut leaving = BTreeSet::new();
        for item in rest.take_while(|item| item.place.at == at) {
            let What::Door(fact) = item.what else { continue };
            // An edit may have set that a visit began before this instant.
            let boundary = self.folded.people.get(&item.subject).and_then(PersonState::next_boundary);
            if boundary.is_some_and(|(next, _)| next < at) {
                self.run_timers(at.moved(-1), &BTreeSet::new());
            }
            let open = self.folded.people.get(&item.subject).and_then(PersonState::open);
            if open.is_none_or(|open| open.ends_at_last().0 > at) {
                continue;
            }
            let Some(policy) = self.world.policy(item.business, at).map(Arc::clone) else { continue };
            let DoorVerdict::Claim(action) = admission::judge_door(fact, &policy) else { continue };
            self.run_timers(at.moved(-1), &BTreeSet::new());
            let person = self.folded.people.get(&item.subject);
            if person.is_some_and(|person| person.would_leave(item.business, action, (fact.tap(), at), &policy.rules()))
            {
                leaving.insert(item.subject);
            }
        }
        leaving
    }

    /// Runs the timers up to `until`, the earliest first. People in `leaving` leave at `until` before their timer.
    pub(super) fn run_timers(&mut self, until: WallTime, leaving: &BTreeSet<Subject>) {
        self.run_timers_before(until, leaving, false);
    }

    /// The same; with `edits_first`, what edits have set to begin at `until` waits for other edits that say something
    /// about that instant.
    pub(super) fn run_timers_before(&mut self, until: WallTime, leaving: &BTreeSet<Subject>, edits_first: bool) {
        while let Some((at, subject, timer)) =
            self.next_timer(until, (leaving, edits_first)).filter(|(at, ..)| *at <= until)
        {
            let Some(mut person) = self.take(subject, at) else { return };
            let by = match timer {
                Timer::Close(CloseBy::PinnedEnd) => {
                    if let Some(ended) = person.end_span(at) {
                        self.note_ended(subject, &person, ended);
                    }
                    self.put(subject, person, FactOrder::before(at));
                    continue;
                }
                Timer::Close(by) => by,
                Timer::Boundary => {
                    self.run_boundaries(subject, &mut person, at);
                    self.put(subject, person, FactOrder::before(at));
                    continue;
                }
            };
            let Some(open) = person.open().cloned() else { return };
            let ended = self.at_business(subject, open.business, at, |context, _| {
                // Without the settings of the business we cannot say whether they may stay.
                person.end(context, by, at)
            });
            if let Some(ended) = ended {
                self.note_ended(subject, &person, ended);
            }
            self.put(subject, person, FactOrder::before(at));
        }
    }

    /// Begins what edits have set to begin at this instant.
    fn run_boundaries(&mut self, subject: Subject, person: &mut PersonState, at: WallTime) {
        while let Some((_, boundary)) = person.next_boundary().filter(|(next, _)| *next <= at) {
            let ended = match boundary {
                EditBoundary::AbsenceBegins => person.begin_absences(at),
                EditBoundary::VisitBegins => {
                    let Some(business) = person.begins_at(at) else { return };
                    let visit = self.at_business(subject, business, at, |context, _| person.begin_pinned(context, at));
                    let Some(PinnedVisit { ended, visit }) = visit else { continue };
                    if let Some(visit) = visit.and_then(|visit| person.visit(visit)) {
                        self.note_opened(subject, visit, at);
                    }
                    ended
                }
            };
            if let Some(ended) = ended {
                self.note_ended(subject, person, ended);
            }
        }
    }

    /// The next timer to expire, except at `until` for people in `leaving`. At the same instant, a visit ends before
    /// what edits have set begins.
    fn next_timer(
        &self,
        until: WallTime,
        (leaving, edits_first): (&BTreeSet<Subject>, bool),
    ) -> Option<(WallTime, Subject, Timer)> {
        let close = |(subject, person): (&Subject, &PersonState)| {
            let open = person.open()?;
            let (last, by) = open.ends_at_last();
            let is_quiet = |at: WallTime| match self.upcoming.next(*subject, open.business) {
                Some(heard) => at < heard,
                // If the visit ends by then anyway, there is nothing to wait for: evidence that arrives later is late.
                None => at < self.world.quiet_until || last <= until,
            };
            let silence = open
                .may_go_silent()
                .then(|| self.world.coverage(open.business).run_out(open.last_activity, self.world.idle_limit(open)))
                .flatten()
                .filter(|at| *at < last && is_quiet(*at));
            Some(
                silence.map_or((last, *subject, Timer::Close(by)), |at| (at, *subject, Timer::Close(CloseBy::Silence))),
            )
        };
        let boundary = |(subject, person): (&Subject, &PersonState)| {
            person.next_boundary().map(|(at, _)| (at, *subject, Timer::Boundary))
        };
        let in_time = |(at, subject, _): &(WallTime, Subject, Timer)| *at == until && leaving.contains(subject);
        let closes = self.folded.people.iter().filter_map(close).filter(|timer| !in_time(timer));
        let boundaries = self.folded.people.iter().filter_map(boundary);
        let boundaries = boundaries.filter(|(at, ..)| !(edits_first && *at == until));
        let first = |(at, subject, timer): &(WallTime, Subject, Timer)| (*at, *timer == Timer::Boundary, *subject);
        closes.chain(boundaries).min_by_key(first)
    }

    /// Applies a new version of the directory: checks out people who may no longer be in, and updates when passes end.
    pub(super) fn new_directory(&mut self, at: WallTime) {
        let place = FactOrder { rank: FactRank::Directory, ..FactOrder::before(at) };
        let is_in = |(subject, person): (&Subject, &PersonState)| {
            let open = person.open().filter(|open| !open.runs_at(at));
            open.filter(|open| place > person.folded && open.from < at).map(|open| (*subject, open.clone()))
        };
        let open: Vec<(Subject, Visit)> = self.folded.people.iter().filter_map(is_in).collect();
        for (subject, open) in open {
            let Some(mut person) = self.take(subject, at) else { continue };
            let (mut ended, mut repassed) = (None, None);
            self.at_business(subject, open.business, at, |context, admission| {
                let (Some(context), Some(admission)) = (context, admission) else { return };
                if admission.barrier().is_some() {
                    let (decision, _) = person.decide(context, &Claim::Withdrawn { at }, FactDigest([0; 16]));
                    ended = (decision.outcome == Outcome::Closed).then_some(EndedVisit {
                        visit: open.unique_id,
                        business: open.business,
                        at,
                        by: CloseBy::Withdrawn,
                        after_pass: None,
                    });
                } else if let Some(pass) = admission.new_pass_end(&open, &person, at)
                    && let Some(visit) = person.visits.iter_mut().find(|visit| visit.is_open())
                {
                    let before = visit.pass.replace(pass.clone());
                    repassed = Some(Repassed { visit: visit.unique_id, at, before, now: pass });
                }
            });
            self.folded.repassed.extend(repassed);
            if let Some(ended) = ended {
                self.note_ended(subject, &person, ended);
            }
            self.put(subject, person, place);
        }
    }
}

/// When a person's open visit ends if no more evidence arrives; never later than it really ends.
pub fn deadline(person: &PersonState, world: &World<'_>) -> Option<(BusinessId, WallTime)> {
    let open = person.open()?;
    let (last, _) = open.ends_at_last();
    let silence = open.may_go_silent().then(|| {
        let coverage = world.coverage(open.business);
        let limit = world.idle_limit(open);
        let known = coverage.run_out(open.last_activity, limit).map(|at| at.moved(1));
        // The earliest possible end, if everything since the last frame and from now on is covered. If it is not, this
        // is checked again later.
        let left = limit.saturating_sub(coverage.at_most_since(open.last_activity)).max(SOONEST);
        known.filter(|known| *known >= world.quiet_until).unwrap_or_else(|| world.now.plus(left).moved(1))
    });
    Some((open.business, silence.map_or(last, |silence| silence.min(last))))
}

/// The first silence that became certain only now, although something after it has been decided. Until now the person
/// counted as in, and a pass that others may use as in use.
pub fn silence_behind<'p>(people: impl IntoIterator<Item = &'p PersonState>, world: &World<'_>) -> Option<WallTime> {
    let people: Vec<&PersonState> = people.into_iter().collect();
    let decided = people.iter().map(|person| person.folded.at).max()?;
    let silence = |open: &Visit| {
        let limit = world.idle_limit(open);
        match world.coverage.get(&open.business) {
            Some(coverage) => coverage.run_out(open.last_activity, limit),
            // Without coverage data, this is the earliest it can be.
            None => Some(open.last_activity.plus(limit)),
        }
    };
    let open = people.iter().filter_map(|person| person.open());
    let open = open.filter(|open| open.may_go_silent());
    open.filter_map(silence).filter(|at| *at <= decided && *at < world.quiet_until).min()
}

/// The shortest wait before a silence that is not certain yet is checked again.
const SOONEST: std::time::Duration = Duration::from_secs(1);
