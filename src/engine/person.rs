//! PURE. One coworker, at whatever businesses: where they stand, and what a claim or a timer does to that.
//!
//! A [`PersonState`] is everything about a person that later decisions depend on, and no more: it is what a checkpoint
//! keeps, and its size does not depend on how long the history is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Admission, Claim, Decision, DoorClaim,
    coverage::Coverage,
    decision::{Note, Outcome, Reason},
    identity,
    life::{self, CloseBy, Input, LifeStep, Phase},
    passes::{PassEnd, PassKind, PassUse, PlanTally, Refused, Spent, Used, payg::Charged},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{FactDigest, FactOrder, TapId},
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId},
    },
    policy::{
        Rules,
        calendar::{Calendar, PassDay},
    },
};

/// Visits that a later claim may still change: the last, and the one before it, which tells whether the last is the first
/// of its day. Older ones are only counted.
pub const STILL_OPEN_TO_CHANGE: usize = 2;

/// One check-in, as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// Its identity: made of the fact that opened it.
    pub unique_id: Uuid,
    /// Where.
    pub business: BusinessId,
    /// What opened it.
    pub source: CheckinSource,
    /// In.
    pub from: WallTime,
    /// When what let them in was decided; for the network later than `from`.
    pub admitted_at: WallTime,
    /// Out; none while open.
    pub to: Option<WallTime>,
    /// Its pass day, by the settings in force when it began.
    pub day: PassDay,
    /// Closed by us rather than by an exit.
    pub auto_checkout: bool,
    /// Closed because its pass ended.
    pub pass_ended: bool,
    /// The last sign of life.
    pub last_activity: WallTime,
    /// Devices seen during it.
    pub macs: BTreeSet<MacAddr>,
    /// The last entry by a door during it; what toggles go by.
    pub door_in_at: Option<WallTime>,
    /// The last strong network evidence during it; what makes it tracked.
    pub strong_at: Option<WallTime>,
    /// The last network evidence after the exit that was only the phone leaving.
    pub lingered_at: Option<WallTime>,
    /// The pass that covers it; none where passes are not asked for.
    pub pass: Option<PassUse>,
    /// No visit at the same business began earlier in its pass day.
    pub first_of_day: bool,
    /// The beginning of the last stretch of presence: of a day that is one block, the last return.
    pub since: WallTime,
    /// Whole seconds of presence in the stretches before.
    pub before: u64,
}

impl Visit {
    /// Not closed yet.
    pub const fn is_open(&self) -> bool {
        self.to.is_none()
    }

    /// Has the network seen a device of theirs during it? Only then does silence mean anything.
    pub const fn is_tracked(&self) -> bool {
        self.strong_at.is_some()
    }

    /// The pass that somebody holds and it uses; none for pay-as-you-go.
    pub fn held_pass(&self) -> Option<Uuid> {
        self.pass.as_ref().and_then(|pass| pass.guid)
    }

    /// Does it count towards the limits of a plan?
    pub fn counts(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.counts_towards_plan_limits)
    }

    /// What it uses of passes and limits.
    pub fn spent(&self, coworker: CoworkerId) -> Spent {
        Spent {
            coworker,
            pass: self.held_pass(),
            counts: self.counts(),
            from: self.from,
            to: self.to,
            day: self.day,
            since: self.since,
            before: self.before,
        }
    }

    /// When its pass stops covering it, if that is before the pass day ends.
    pub fn pass_ends(&self) -> Option<WallTime> {
        self.pass.as_ref().and_then(|pass| pass.ends).map(|(at, _)| at.max(self.from))
    }

    /// When nothing but silence would end it.
    pub fn ends_at_last(&self) -> (WallTime, CloseBy) {
        let pass_end = self.pass_ends().filter(|at| *at < self.day.end).map(|at| (at, CloseBy::PassEnd));
        pass_end.unwrap_or((self.day.end, CloseBy::CutOff))
    }

    /// The same visit after a step of the clock that wrote it, by so many milliseconds.
    #[must_use]
    pub fn moved(&self, by: i64, day: PassDay) -> Self {
        let moved = |at: Option<WallTime>| at.map(|at| at.moved(by));
        Self {
            from: self.from.moved(by),
            to: moved(self.to),
            day,
            last_activity: self.last_activity.moved(by),
            door_in_at: moved(self.door_in_at),
            strong_at: moved(self.strong_at),
            lingered_at: moved(self.lingered_at),
            pass: self.pass.clone().map(|pass| PassUse {
                ends: pass.ends.map(|(at, why)| match why {
                    PassEnd::MinutesUsedUp | PassEnd::LimitReached => (at.moved(by), why),
                    PassEnd::SlotEnds | PassEnd::Expires => (at, why),
                }),
                ..pass
            }),
            since: self.since.moved(by),
            ..self.clone()
        }
    }

    /// It began earlier than was known; what it uses of a pass began then too.
    fn begin_at(&mut self, from: WallTime) {
        let earlier = self.from.since(from);
        if self.since == self.from {
            self.since = from;
        }
        self.from = from;
        if let Some(pass) = &mut self.pass {
            pass.ends = pass.ends.map(|(at, why)| match why {
                PassEnd::MinutesUsedUp | PassEnd::LimitReached => (at.minus(earlier), why),
                PassEnd::SlotEnds | PassEnd::Expires => (at, why),
            });
        }
    }

    /// Did its pass end under somebody of whom the network heard, so that it was closed before that at their last activity?
    fn cut_short(&self) -> Option<WallTime> {
        let end = self.pass_ends().filter(|_| self.pass_ended && self.is_tracked())?;
        self.to.is_some_and(|to| to < end).then_some(end)
    }

    /// What a tap at a toggle door means during it: toggles flip what *doors* have said, and a tap within the minimum stay
    /// since the last entry says nothing.
    fn toggled(&self, at: WallTime, rules: &Rules) -> DoorClaim {
        match self.door_in_at {
            Some(entered) if at >= entered.plus(rules.toggle_minimum_stay) => DoorClaim::Exit,
            Some(_) => DoorClaim::Activity,
            None => DoorClaim::Entry,
        }
    }

    fn left_by_exit(&self) -> bool {
        self.to.is_some() && !self.auto_checkout
    }

    /// Network evidence up to here is joined to the exit: it is the phone in its owner's pocket.
    fn followed_until(&self, rules: &Rules) -> WallTime {
        self.to.max(self.lingered_at).unwrap_or(self.from).plus(rules.linger)
    }

    fn close(&mut self, by: CloseBy, at: WallTime) {
        let to = match by {
            CloseBy::Silence => self.last_activity,
            CloseBy::CutOff | CloseBy::PassEnd | CloseBy::Withdrawn | CloseBy::Elsewhere if self.is_tracked() => {
                self.last_activity.min(at)
            }
            CloseBy::Exit | CloseBy::CutOff | CloseBy::PassEnd | CloseBy::Withdrawn | CloseBy::Elsewhere => at,
        };
        self.to = Some(to.max(self.from));
        self.pass_ended = by == CloseBy::PassEnd;
        self.auto_checkout = by != CloseBy::Exit;
        if by == CloseBy::Exit {
            self.lingered_at = (self.last_activity > at).then_some(self.last_activity);
            self.last_activity = self.last_activity.max(at);
        }
    }
}

/// A device's refusal that was written once in its pass day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedDevice {
    /// Where.
    pub business: BusinessId,
    /// The beginning of the pass day.
    pub day: WallTime,
    /// Why.
    pub reason: Reason,
    /// The device.
    pub mac: MacAddr,
}

/// What pay-as-you-go has charged at a business on a pass day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargedDay {
    /// Where.
    pub business: BusinessId,
    /// The beginning of the pass day.
    pub day: WallTime,
    /// What.
    pub charged: Charged,
}

/// Everything about a person that later decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonState {
    /// Everything up to here is in it.
    pub folded: FactOrder,
    /// The newest version of the directory that it was folded by: one that came into force before `folded` and is newer is late.
    pub directory: i64,
    /// A silence has ended a visit there at this instant: what was heard there before it is late.
    pub silent_at: Option<(BusinessId, WallTime)>,
    /// The last visits, earliest first; at most one is open.
    pub visits: Vec<Visit>,
    /// Until when a read is the repetition of each tap.
    pub taps: Vec<(TapId, WallTime)>,
    /// The last entry by a door at each business.
    pub let_in: Vec<(BusinessId, WallTime)>,
    /// Refusals of devices in the pass day.
    pub refused: Vec<RefusedDevice>,
    /// What earlier visits used of passes.
    pub used: Vec<(Uuid, Used)>,
    /// What earlier visits count towards the limits of the plan.
    pub counted: PlanTally,
    /// What earlier visits of the pass day were charged.
    pub charged: Vec<ChargedDay>,
    /// The last pass day with a visit at each business.
    pub came: Vec<(BusinessId, WallTime)>,
}

impl Default for PersonState {
    fn default() -> Self {
        Self {
            folded: FactOrder::FIRST,
            directory: 0,
            silent_at: None,
            visits: Vec::new(),
            taps: Vec::new(),
            let_in: Vec::new(),
            refused: Vec::new(),
            used: Vec::new(),
            counted: PlanTally::default(),
            charged: Vec::new(),
            came: Vec::new(),
        }
    }
}

/// The identity of the visit that a fact opens.
pub fn visit_of(opening: FactDigest) -> Uuid {
    identity([opening.0.as_slice(), b"visit"])
}

/// Stands for a fact in the identity of the next visit that it opens, where it has used up the pass of the one before.
fn next_opening(opening: FactDigest) -> FactDigest {
    FactDigest::of([opening.0.as_slice(), b"went on"])
}

/// Visits that one fact opens, at most: more passes than anybody has that end within one presence.
const OPENED_BY_ONE: usize = 8;

/// The identities of all visits that a fact may open.
pub fn visits_of(opening: FactDigest) -> impl Iterator<Item = Uuid> {
    std::iter::successors(Some(opening), |before| Some(next_opening(*before))).take(OPENED_BY_ONE).map(visit_of)
}

/// Who says whether a claim may open a check-in: asked only where one would be opened.
pub trait Gate {
    /// May this claim open a check-in that began at `from`, for somebody who stands there? `continued` is the pass of a visit
    /// elsewhere that it ends.
    fn admission(&self, claim: &Claim, from: WallTime, person: &PersonState, continued: Option<Uuid>) -> Admission;

    /// May somebody whose pass ends at this instant stay? No claim is made: no one has said that they are still there, nor
    /// that they left.
    fn stay(&self, at: WallTime, source: CheckinSource, person: &PersonState) -> Admission;
}

/// Where a claim is made, and what holds there at its time.
#[derive(Clone, Copy)]
pub struct ClaimContext<'a> {
    /// The business.
    pub business: BusinessId,
    /// Its rules at the time.
    pub rules: &'a Rules,
    /// When its captures could hear.
    pub coverage: &'a Coverage,
    /// Who may come in.
    pub gate: &'a dyn Gate,
    /// How long a device may be silent at the business where the person is in, if that is another.
    pub idle_elsewhere: std::time::Duration,
}

impl std::fmt::Debug for ClaimContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").field("business", &self.business).field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// A visit that a timer, or coming in elsewhere, has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedVisit {
    /// Which.
    pub visit: Uuid,
    /// Where.
    pub business: BusinessId,
    /// When the timer ran out, which for silence is later than the visit's end.
    pub at: WallTime,
    /// Which timer.
    pub by: CloseBy,
    /// What followed, where a pass ended under somebody of whom nothing was heard either way.
    pub after_pass: Option<AfterPass>,
}

/// What becomes of somebody whose pass ends while they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterPass {
    /// Another pass covers them: a visit of its own.
    On(Uuid),
    /// None does: a failed check-in.
    Refused(Refused),
}

impl PersonState {
    /// The open visit.
    pub fn open(&self) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.is_open())
    }

    /// The visit with this identity, while it may still change.
    pub fn visit(&self, unique_id: Uuid) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.unique_id == unique_id)
    }

    /// What they have used of some passes, visits that may still change included. `basis_of` says since when a pass is counted.
    pub fn uses(
        &self,
        coworker: CoworkerId,
        asked: impl Fn(&Uuid) -> bool,
        basis_of: impl Fn(Uuid) -> Option<WallTime>,
    ) -> BTreeMap<Uuid, Used> {
        let mut all: BTreeMap<Uuid, Used> = self.used.iter().filter(|(pass, _)| asked(pass)).copied().collect();
        for visit in &self.visits {
            let Some(pass) = visit.held_pass().filter(&asked) else { continue };
            let used = all.entry(pass).or_insert(Used::nothing(coworker, WallTime::from_millis(0)));
            *used = used.based_on(basis_of(pass).unwrap_or(used.basis_at));
            used.add(&visit.spent(coworker));
            if visit.is_open() {
                used.open = Some(visit.from);
            }
        }
        all
    }

    /// Has a door let them in at this business during the pass day of `at`?
    pub fn let_in_by_door(&self, business: BusinessId, calendar: &Calendar, at: WallTime) -> bool {
        let day = calendar.pass_day(at);
        self.let_in.iter().any(|(place, entry)| *place == business && day.contains(*entry) && *entry <= at)
    }

    /// Is this tap the repetition of one that was read just before? It is remembered, so that reads of one card that is left at a
    /// reader are one until there is a gap.
    pub fn repeats(&mut self, tap: TapId, at: WallTime, rules: &Rules) -> bool {
        self.taps.retain(|(_, until)| at <= *until);
        let until = at.plus(rules.debounce);
        match self.taps.iter_mut().find(|(known, _)| *known == tap) {
            Some((_, known)) => {
                *known = until;
                true
            }
            None => {
                self.taps.push((tap, until));
                false
            }
        }
    }

    /// Does a tap at a door end their open visit as an exit? It is not remembered.
    pub fn would_leave(
        &self,
        business: BusinessId,
        action: DoorClaim,
        (tap, at): (TapId, WallTime),
        rules: &Rules,
    ) -> bool {
        let repeats = self.taps.iter().any(|(known, until)| *known == tap && at <= *until);
        let exits = |visit: &Visit| match action {
            DoorClaim::Exit => true,
            DoorClaim::Toggle => visit.toggled(at, rules) == DoorClaim::Exit,
            DoorClaim::Entry | DoorClaim::Activity => false,
        };
        !repeats && self.open().filter(|open| open.business == business).is_some_and(exits)
    }

    /// Was this refusal of a device written before in the pass day? If not, it is remembered.
    pub fn refused_before(&mut self, refused: RefusedDevice) -> bool {
        self.refused.retain(|known| known.business != refused.business || known.day >= refused.day);
        let known = self.refused.contains(&refused);
        if !known {
            self.refused.push(refused);
        }
        known
    }

    /// Takes out the oldest visit that no claim can change any more.
    pub fn settled(&mut self) -> Option<Visit> {
        (self.visits.len() > STILL_OPEN_TO_CHANGE).then(|| self.visits.remove(0))
    }

    /// Decides the next claim. `id` tells its fact from every other.
    pub fn decide(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        id: FactDigest,
    ) -> (Decision, Option<EndedVisit>) {
        self.bridge(context, claim);
        let claim = &self.still_leaving(context, *claim);
        let mut moved = None;
        let mut continued = None;
        if let Some(open) = self.open().filter(|open| open.business != context.business) {
            match claimed_elsewhere(open, context, claim) {
                ElsewhereEffect::Nothing(note) => return (Decision::recorded(note), None),
                ElsewhereEffect::Ends => {
                    continued = open.held_pass();
                    moved = self.end_elsewhere(claim.at());
                }
                ElsewhereEffect::Asks => return self.ask_elsewhere(context, claim, id),
            }
        }
        let (phase, index) = self.phase(context, claim);
        let told = self.untoggled(context, *claim, phase, index);
        if let (Claim::Door { action: DoorClaim::Toggle, at }, Claim::Door { action: DoorClaim::Exit, .. }) =
            (*claim, told)
        {
            let absent_until = at.plus(context.rules.toggle_minimum_stay);
            self.taps.push((TapId::toggled_out(context.business), absent_until));
            if let (Phase::Out | Phase::Left, Some(visit)) = (phase, self.at(index)) {
                // Doors have said now that they left.
                visit.door_in_at = None;
            }
        }
        let claim = &told;
        let decision = match life::step(phase, self.input(context, claim, index)) {
            LifeStep::Ask => match self.began(context, claim) {
                Some(from) => self.ask(context, claim, from, continued, id),
                None => Decision::recorded(Note::WeakEvidence),
            },
            LifeStep::Refresh => self.refresh(context, claim, index, id),
            LifeStep::Close(by) => {
                let Some(visit) = self.at(index) else { return (Decision::recorded(Note::NotCheckedIn), moved) };
                visit.close(by, claim.at());
                Decision::of(Outcome::Closed, visit.unique_id)
            }
            LifeStep::Linger => {
                let Some(visit) = self.at(index) else { return (Decision::recorded(Note::Lingering), moved) };
                visit.lingered_at = visit.lingered_at.max(Some(claim.at()));
                Decision { visit: Some(visit.unique_id), ..Decision::recorded(Note::Lingering) }
            }
            LifeStep::Record(note) => Decision::recorded(note),
            LifeStep::Nothing => Decision::recorded(Note::Late),
        };
        (decision, moved)
    }

    /// Ends the open visit on a timer that ran out at `at`.
    pub fn end(&mut self, context: Option<&ClaimContext<'_>>, by: CloseBy, at: WallTime) -> Option<EndedVisit> {
        let visit = self.visits.iter_mut().find(|visit| visit.is_open())?;
        visit.close(by, at);
        if by == CloseBy::Silence {
            self.silent_at = Some((visit.business, at));
        }
        let ended = visit.clone();
        let then = (by == CloseBy::PassEnd && !ended.is_tracked())
            .then(|| context.and_then(|context| self.stay(context, &ended, at)))
            .flatten();
        Some(EndedVisit { visit: ended.unique_id, business: ended.business, at, by, after_pass: then })
    }

    /// The pass of somebody has ended whom only doors know: no one has said that they left. Another pass takes over where
    /// there is one; else the front desk is told. Of whom the network hears, it will say whether they are still there.
    fn stay(&mut self, context: &ClaimContext<'_>, ended: &Visit, at: WallTime) -> Option<AfterPass> {
        match context.gate.stay(at, ended.source, self) {
            Admission::Admitted(pass) => {
                let id = identity([ended.unique_id.as_bytes().as_slice(), b"stay", &at.millis().to_be_bytes()]);
                self.visits.push(Visit {
                    unique_id: id,
                    from: at,
                    admitted_at: at,
                    to: None,
                    day: context.rules.calendar.pass_day(at),
                    auto_checkout: false,
                    pass_ended: false,
                    last_activity: at,
                    macs: BTreeSet::new(),
                    strong_at: None,
                    lingered_at: None,
                    pass,
                    first_of_day: false,
                    since: at,
                    before: 0,
                    ..ended.clone()
                });
                Some(AfterPass::On(id))
            }
            Admission::Refused(refused) => Some(AfterPass::Refused(refused)),
            Admission::Held(_) => None,
        }
    }

    /// The network would let somebody in here who is in elsewhere, silently: they are there until they are admitted here.
    fn ask_elsewhere(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        id: FactDigest,
    ) -> (Decision, Option<EndedVisit>) {
        let Some(from) = self.began(context, claim) else { return (Decision::recorded(Note::WeakEvidence), None) };
        let mut moved_on = self.clone();
        let continued = self.open().and_then(Visit::held_pass);
        let ended = moved_on.end_elsewhere(from);
        let decision = moved_on.ask(context, claim, from, continued, id);
        // Also if the pass that let them in is used up by now.
        if moved_on.visits.len() > self.visits.len() {
            *self = moved_on;
            (decision, ended)
        } else {
            (decision, None)
        }
    }

    /// Somebody who is asked about here leaves where they are in, as when they came: the pass that goes on. The network moves
    /// nobody who is heard of there.
    pub(super) fn come_from_elsewhere(
        &mut self,
        business: BusinessId,
        at: WallTime,
        by: CheckinSource,
        idle_elsewhere: std::time::Duration,
    ) -> Result<Option<Uuid>, Note> {
        let Some(open) = self.open().filter(|open| open.business != business) else { return Ok(None) };
        if by == CheckinSource::NetworkActivity && at <= open.last_activity.plus(idle_elsewhere) {
            return Err(Note::InElsewhere);
        }
        let continued = open.held_pass();
        self.end_elsewhere(at);
        Ok(continued)
    }

    fn end_elsewhere(&mut self, at: WallTime) -> Option<EndedVisit> {
        let visit = self.visits.iter_mut().find(|visit| visit.is_open())?;
        visit.close(CloseBy::Elsewhere, at);
        Some(EndedVisit {
            visit: visit.unique_id,
            business: visit.business,
            at,
            by: CloseBy::Elsewhere,
            after_pass: None,
        })
    }

    /// Somebody whose visit was closed at their last activity, because their pass ended, is heard of again before a silence
    /// would have closed it: then they were there, and used the pass, to its end.
    fn bridge(&mut self, context: &ClaimContext<'_>, claim: &Claim) {
        let weak = matches!(claim, Claim::Network { strong_at: None, .. } | Claim::Withdrawn { .. });
        if weak || self.open().is_some() {
            return;
        }
        let Some(visit) = self.visits.last_mut().filter(|visit| visit.business == context.business) else { return };
        if let Some(end) = visit.cut_short()
            && end <= claim.at()
            && visit.day.contains(claim.at())
            && !silent_before(visit, context, claim.heard_at())
        {
            visit.to = Some(end);
        }
    }

    fn at(&mut self, index: Option<usize>) -> Option<&mut Visit> {
        index.and_then(|index| self.visits.get_mut(index))
    }

    /// Where the coworker stands at this business, and the visit that this is about.
    fn phase(&self, context: &ClaimContext<'_>, claim: &Claim) -> (Phase, Option<usize>) {
        if let Some(index) = self.visits.iter().position(Visit::is_open) {
            let tracked = self.visits.get(index).is_some_and(Visit::is_tracked);
            return (if tracked { Phase::Tracked } else { Phase::In }, Some(index));
        }
        let previous = self.visits.len().checked_sub(1);
        let left = self.visits.last().is_some_and(|visit| lingers(visit, context, claim));
        (if left { Phase::Left } else { Phase::Out }, previous)
    }

    /// A tap at a toggle door so soon after one that was an exit is no entry: they are still leaving.
    fn still_leaving(&self, context: &ClaimContext<'_>, claim: Claim) -> Claim {
        let Claim::Door { action: DoorClaim::Toggle, at } = claim else { return claim };
        let is_in = self.open().is_some_and(|open| open.business == context.business);
        let left = TapId::toggled_out(context.business);
        if !is_in && self.taps.iter().any(|(known, until)| *known == left && at < *until) {
            Claim::Door { action: DoorClaim::Activity, at }
        } else {
            claim
        }
    }

    /// What a tap at a toggle door means where the coworker stands: the first tap during a visit that the network opened is an
    /// entry, because no door has said anything; the first tap of somebody whose pass has ended under them is their exit.
    fn untoggled(&self, context: &ClaimContext<'_>, claim: Claim, phase: Phase, index: Option<usize>) -> Claim {
        let Claim::Door { action: DoorClaim::Toggle, at } = claim else {
            return claim;
        };
        let visit = index.and_then(|index| self.visits.get(index));
        let visit = visit.filter(|visit| match phase {
            Phase::In | Phase::Tracked => true,
            Phase::Out | Phase::Left => stays_without_pass(visit, context, at),
        });
        let action = visit.map_or(DoorClaim::Entry, |visit| visit.toggled(at, context.rules));
        Claim::Door { action, at }
    }

    fn input(&self, context: &ClaimContext<'_>, claim: &Claim, index: Option<usize>) -> Input {
        match *claim {
            Claim::Door { action, .. } => match action {
                DoorClaim::Entry | DoorClaim::Toggle => Input::Entry,
                DoorClaim::Exit => Input::Exit,
                DoorClaim::Activity => Input::Activity,
            },
            Claim::Network { strong_at: Some(_), .. } => Input::Strong,
            Claim::Network { strong_at: None, last_at, .. } => Input::Weak {
                fresh: index
                    .and_then(|index| self.visits.get(index))
                    .and_then(|visit| visit.strong_at)
                    .is_some_and(|strong| last_at <= strong.plus(context.rules.idle_limit.saturating_mul(2))),
            },
            Claim::Withdrawn { .. } => Input::Withdrawn,
        }
    }

    /// May they come in, who have been there since then?
    fn ask(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        from: WallTime,
        continued: Option<Uuid>,
        id: FactDigest,
    ) -> Decision {
        match context.gate.admission(claim, from, self, continued) {
            Admission::Admitted(pass) => {
                let used_up = pass.as_ref().and_then(|pass| pass.ends).map(|(at, _)| at).filter(|at| *at <= claim.at());
                let decision = self.come_in(context, claim, from, pass, id);
                match used_up {
                    Some(at) => self.ask_again(context, claim, at, decision, id),
                    None => decision,
                }
            }
            Admission::Refused(refused) => Decision::refused(refused),
            Admission::Held(note) => Decision::recorded(note),
        }
    }

    /// They were there for so long before anything opened the visit that its pass is used up by now: it lasted to its end.
    fn ask_again(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        end: WallTime,
        decision: Decision,
        id: FactDigest,
    ) -> Decision {
        if let Some(visit) = self.visits.last_mut() {
            visit.close(CloseBy::PassEnd, end);
            visit.last_activity = visit.last_activity.min(end);
        }
        match self.began(context, claim) {
            Some(from) => self.ask(context, claim, from, None, next_opening(id)),
            None => decision,
        }
    }

    fn come_in(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        from: WallTime,
        pass: Option<PassUse>,
        id: FactDigest,
    ) -> Decision {
        if let Some(visit) = self.same_block(context, claim, pass.as_ref()) {
            // Presence is counted, and the gap is none.
            visit.before += visit.to.unwrap_or(visit.since).since(visit.since).as_secs();
            visit.since = from;
            (visit.to, visit.auto_checkout, visit.lingered_at, visit.pass) = (None, false, None, pass);
            // What doors said before they left is over.
            (visit.pass_ended, visit.door_in_at) = (false, None);
            let unique_id = visit.unique_id;
            self.freshen(self.visits.len() - 1, context, claim);
            return Decision::of(Outcome::Opened, unique_id);
        }
        let day = context.rules.calendar.pass_day(from);
        let first_of_day = !self.came.contains(&(context.business, day.start));
        self.came.retain(|(business, _)| *business != context.business);
        self.came.push((context.business, day.start));
        let unique_id = visit_of(id);
        self.visits.push(Visit {
            unique_id,
            business: context.business,
            source: claim.source(),
            from,
            admitted_at: claim.at(),
            to: None,
            day,
            auto_checkout: false,
            pass_ended: false,
            last_activity: claim.at(),
            macs: BTreeSet::new(),
            door_in_at: None,
            strong_at: None,
            lingered_at: None,
            pass,
            first_of_day,
            since: from,
            before: 0,
        });
        self.freshen(self.visits.len() - 1, context, claim);
        Decision::of(Outcome::Opened, unique_id)
    }

    /// With a day pass, and where no pass is asked for, the day is one block, from first in to last out: the visit of that day
    /// with that pass, if a return opens it again.
    fn same_block(&mut self, context: &ClaimContext<'_>, claim: &Claim, pass: Option<&PassUse>) -> Option<&mut Visit> {
        if context.rules.record_every_visit {
            return None;
        }
        let visit = self.visits.last_mut().filter(|visit| visit.business == context.business)?;
        let same = match (visit.pass.as_ref(), pass) {
            (None, None) => true,
            // A record keeps whether it counts towards the plan.
            (Some(known), Some(pass)) => {
                [known.kind, pass.kind] == [PassKind::Day; 2]
                    && known.guid == pass.guid
                    && known.counts_towards_plan_limits == pass.counts_towards_plan_limits
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        (same && visit.day.contains(claim.at())).then_some(visit)
    }

    /// When somebody whom a claim brings in was first there: for the network the start of the unbroken presence, but not
    /// before what is known about the previous visit, and not before the pass day; nothing if no strong evidence is from then.
    fn began(&self, context: &ClaimContext<'_>, claim: &Claim) -> Option<WallTime> {
        match *claim {
            Claim::Door { at, .. } | Claim::Withdrawn { at } => Some(at),
            Claim::Network { since, first_at, last_at, strong_at, .. } => {
                let evidence = strong_at.unwrap_or(last_at);
                let previous = self.visits.last();
                let follows = |visit: &Visit| {
                    visit.business == context.business
                        && visit.left_by_exit()
                        && first_at <= visit.followed_until(context.rules)
                };
                let day = context.rules.calendar.pass_day(last_at).start;
                // Evidence that came while they were in elsewhere opens nothing, and dates nothing either.
                let elsewhere = |visit: &Visit| visit.is_open() && visit.business != context.business;
                let left = previous.map(|visit| match visit.to {
                    Some(to) => to,
                    None if elsewhere(visit) => visit.last_activity.plus(context.idle_elsewhere),
                    None => visit.last_activity,
                });
                let left = left.max(previous.and_then(|visit| visit.lingered_at));
                if evidence < day || left.is_some_and(|left| evidence < left) {
                    return None;
                }
                if previous.is_some_and(follows) {
                    return Some(evidence);
                }
                let after = |at: &WallTime| *at >= day && left.is_none_or(|left| *at > left);
                [since, first_at].into_iter().find(after).or(Some(evidence))
            }
        }
    }

    fn refresh(&mut self, context: &ClaimContext<'_>, claim: &Claim, index: Option<usize>, id: FactDigest) -> Decision {
        let from = index.and_then(|index| self.earlier_beginning(context, claim, index));
        let Some(visit) = self.at(index) else { return Decision::recorded(Note::NotCheckedIn) };
        let unique_id = visit.unique_id;
        if let Some(from) = from {
            visit.begin_at(from);
            visit.source = claim.source();
        }
        let used_up = visit.pass_ends().filter(|end| *end <= claim.at());
        if let Some(index) = index {
            self.freshen(index, context, claim);
        }
        let decision = Decision::of(Outcome::Refreshed, unique_id);
        match used_up {
            Some(end) => self.ask_again(context, claim, end, decision, id),
            None => decision,
        }
    }

    /// When somebody who is in was there before: a device that was seen, with the right to open, before the door opened
    /// this first visit of the day.
    fn earlier_beginning(&self, context: &ClaimContext<'_>, claim: &Claim, index: usize) -> Option<WallTime> {
        let visit = self.visits.get(index)?;
        let Claim::Network { first_at, strong_at: Some(_), .. } = *claim else { return None };
        if !visit.first_of_day || !visit.day.contains(first_at) || first_at >= visit.from {
            return None;
        }
        let previous = index.checked_sub(1).and_then(|previous| self.visits.get(previous));
        if previous.is_some_and(|previous| previous.to.is_some_and(|to| first_at < to)) {
            return None;
        }
        // As they stood before the door let them in.
        let mut without = self.clone();
        without.let_in.retain(|(_, entry)| *entry < visit.from);
        without.visits.remove(index);
        match context.gate.admission(claim, first_at, &without, None) {
            Admission::Admitted(_) => Some(first_at),
            Admission::Refused(_) | Admission::Held(_) => None,
        }
    }

    /// Brings a visit up to date with a claim; nothing in it ever moves backwards.
    fn freshen(&mut self, index: usize, context: &ClaimContext<'_>, claim: &Claim) {
        let Some(visit) = self.visits.get_mut(index) else { return };
        visit.last_activity = visit.last_activity.max(claim.at());
        match *claim {
            Claim::Door { action: DoorClaim::Entry | DoorClaim::Toggle, at } => {
                visit.door_in_at = visit.door_in_at.max(Some(at));
                self.let_in.retain(|(business, _)| *business != context.business);
                self.let_in.push((context.business, at));
            }
            Claim::Door { action: DoorClaim::Exit | DoorClaim::Activity, .. } | Claim::Withdrawn { .. } => {}
            Claim::Network { mac, strong_at, .. } => {
                visit.macs.insert(mac);
                visit.strong_at = visit.strong_at.max(strong_at);
            }
        }
    }
}

/// What a claim elsewhere means for an open visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ElsewhereEffect {
    /// Nothing, for this reason.
    Nothing(Note),
    /// It is over: a door there let them in.
    Ends,
    /// It is over if they are admitted there.
    Asks,
}

/// What a claim at one business means for somebody who is in at another: a person is in one place.
fn claimed_elsewhere(open: &Visit, context: &ClaimContext<'_>, claim: &Claim) -> ElsewhereEffect {
    match *claim {
        Claim::Door { action: DoorClaim::Entry | DoorClaim::Toggle, .. } => ElsewhereEffect::Ends,
        Claim::Door { action: DoorClaim::Exit | DoorClaim::Activity, .. } => {
            ElsewhereEffect::Nothing(Note::NotCheckedIn)
        }
        Claim::Withdrawn { .. } => ElsewhereEffect::Nothing(Note::Late),
        Claim::Network { first_at, .. } if first_at <= open.last_activity.plus(context.idle_elsewhere) => {
            ElsewhereEffect::Nothing(Note::InElsewhere)
        }
        Claim::Network { strong_at: None, .. } => ElsewhereEffect::Nothing(Note::WeakEvidence),
        Claim::Network { strong_at: Some(_), .. } => ElsewhereEffect::Asks,
    }
}

/// Has a silence since the last activity been too long before this?
fn silent_before(visit: &Visit, context: &ClaimContext<'_>, at: WallTime) -> bool {
    visit.is_tracked()
        && context.coverage.run_out(visit.last_activity, context.rules.idle_limit).is_some_and(|silence| silence < at)
}

/// Has nothing but the end of their pass ended the visit, so that somebody whom a door let in may still be there? No longer
/// than that day.
fn stays_without_pass(visit: &Visit, context: &ClaimContext<'_>, at: WallTime) -> bool {
    visit.pass_ended
        && visit.business == context.business
        && visit.day.contains(at)
        && !silent_before(visit, context, at)
}

/// Is this network evidence only the phone in the pocket of somebody who is leaving?
fn lingers(visit: &Visit, context: &ClaimContext<'_>, claim: &Claim) -> bool {
    let Claim::Network { first_at, last_at, .. } = *claim else {
        return false;
    };
    let Some(to) = visit.to.filter(|_| visit.left_by_exit() && visit.business == context.business) else {
        return false;
    };
    first_at <= visit.followed_until(context.rules) && last_at <= to.plus(context.rules.idle_limit)
}
