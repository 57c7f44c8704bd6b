//! PURE. What ends visits between the facts: silence, cut-off, the end of a pass and a new version of the directory.

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
        person::{EndedVisit, PersonState, Visit},
    },
};

impl Folding<'_> {
    /// Who leaves by a door in this instant, in which their visit may end by itself: that is in time, and
    /// controllers whose clocks show minutes only say it of everybody who leaves in the last one.
    pub(super) fn leaving<'i>(
        &mut self,
        rest: impl Iterator<Item = &'i FoldItem<'i>>,
        at: WallTime,
    ) -> BTreeSet<Subject> {
        let mut leaving = BTreeSet::new();
        for item in rest.take_while(|item| item.place.at == at) {
            let What::Door(fact) = item.what else { continue };
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

    /// Ends what runs out by itself up to an instant, the earliest first; who leaves in that instant has done so before.
    pub(super) fn run_timers(&mut self, until: WallTime, leaving: &BTreeSet<Subject>) {
        while let Some((at, subject, by)) = self.next_timer(until, leaving).filter(|(at, ..)| *at <= until) {
            let Some(mut person) = self.take(subject, at) else { return };
            let Some(open) = person.open().cloned() else { return };
            let ended = self.at_business(subject, open.business, at, |context, _| {
                // Of a business whose settings are not known, no one can say whether they may stay.
                person.end(context, by, at)
            });
            if let Some(ended) = ended {
                self.note_ended(subject, &person, ended);
            }
            self.put(subject, person, FactOrder::before(at));
        }
    }

    /// The timer that runs out first, where all that run out up to an instant are asked for.
    fn next_timer(&self, until: WallTime, leaving: &BTreeSet<Subject>) -> Option<(WallTime, Subject, CloseBy)> {
        let timer = |(subject, person): (&Subject, &PersonState)| {
            let open = person.open()?;
            let (last, by) = open.ends_at_last();
            let is_quiet = |at: WallTime| match self.upcoming.next(*subject, open.business) {
                Some(heard) => at < heard,
                // Where the visit ends anyway there is nothing to wait for: what is heard after all is late.
                None => at < self.world.quiet_until || last <= until,
            };
            let silence = open
                .is_tracked()
                .then(|| self.world.coverage(open.business).run_out(open.last_activity, self.world.idle_limit(open)))
                .flatten()
                .filter(|at| *at < last && is_quiet(*at));
            Some(silence.map_or((last, *subject, by), |at| (at, *subject, CloseBy::Silence)))
        };
        let in_time = |(at, subject, _): &(WallTime, Subject, CloseBy)| *at == until && leaving.contains(subject);
        let timers = self.folded.people.iter().filter_map(timer).filter(|timer| !in_time(timer));
        timers.min_by_key(|(at, subject, _)| (*at, *subject))
    }

    /// A version of the directory comes into force: who may no longer be in is out, and passes last as long as they do now.
    pub(super) fn new_directory(&mut self, at: WallTime) {
        let place = FactOrder { rank: FactRank::Directory, ..FactOrder::before(at) };
        let is_in = |(subject, person): (&Subject, &PersonState)| {
            person.open().filter(|open| place > person.folded && open.from < at).map(|open| (*subject, open.clone()))
        };
        let open: Vec<(Subject, Visit)> = self.folded.people.iter().filter_map(is_in).collect();
        for (subject, open) in open {
            let Some(mut person) = self.take(subject, at) else { continue };
            let (mut ended, mut repassed) = (None, None);
            self.at_business(subject, open.business, at, |context, gate| {
                let (Some(context), Some(gate)) = (context, gate) else { return };
                if gate.barrier().is_some() {
                    let (decision, _) = person.decide(context, &Claim::Withdrawn { at }, FactDigest([0; 16]));
                    ended = (decision.outcome == Outcome::Closed).then_some(EndedVisit {
                        visit: open.unique_id,
                        business: open.business,
                        at,
                        by: CloseBy::Withdrawn,
                        after_pass: None,
                    });
                } else if let Some(pass) = gate.lasts(&open, &person, at)
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

/// When a person's open visit ends, if nothing more is heard: never later than it really does.
pub fn deadline(person: &PersonState, world: &World<'_>) -> Option<(BusinessId, WallTime)> {
    let open = person.open()?;
    let (last, _) = open.ends_at_last();
    let silence = open.is_tracked().then(|| {
        let coverage = world.coverage(open.business);
        let limit = world.idle_limit(open);
        let known = coverage.run_out(open.last_activity, limit).map(|at| at.moved(1));
        // Covered since the last frame and from now on, it would be then; where it is deaf, it is looked at again in a while.
        let left = limit.saturating_sub(coverage.at_most_since(open.last_activity)).max(SOONEST);
        known.filter(|known| *known >= world.quiet_until).unwrap_or_else(|| world.now.plus(left).moved(1))
    });
    Some((open.business, silence.map_or(last, |silence| silence.min(last))))
}

/// The first silence that is known only now, although something that comes after it has been decided: with somebody in who
/// was out, a pass that others may use was not free.
pub fn silence_behind<'p>(people: impl IntoIterator<Item = &'p PersonState>, world: &World<'_>) -> Option<WallTime> {
    let people: Vec<&PersonState> = people.into_iter().collect();
    let decided = people.iter().map(|person| person.folded.at).max()?;
    let silence = |open: &Visit| {
        let limit = world.idle_limit(open);
        match world.coverage.get(&open.business) {
            Some(coverage) => coverage.run_out(open.last_activity, limit),
            // It may be as early as this.
            None => Some(open.last_activity.plus(limit)),
        }
    };
    let open = people.iter().filter_map(|person| person.open()).filter(|open| open.is_tracked());
    open.filter_map(silence).filter(|at| *at <= decided && *at < world.quiet_until).min()
}

/// How soon a silence that cannot be known yet is looked at again.
const SOONEST: std::time::Duration = Duration::from_secs(1);
