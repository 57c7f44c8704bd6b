//! PURE. Decides what claims do to a coworker's check-ins. No I/O, no clock, no randomness: `now` and ids are handed in.
//!
//! A [`Timeline`] is one coworker at one business, walked in the order of time: claims, and between them the timers that
//! ran out (silence, cut-off, end of the pass). A claim that arrives after later ones is no case of its own: the
//! timeline is walked again from before it, over what the sighting log has kept. So no order of arrival makes a difference.

pub mod admission;
pub mod calendar;
pub mod decision;
pub mod heard;
pub mod life;
pub mod passes;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    clock::WallTime,
    mac::MacAddr,
    record::{BusinessId, CheckinSource, CoworkerId, Snapshot},
};
use calendar::Calendar;
use decision::{Note, Outcome, Reason};
use heard::HeardTimes;
use life::{CloseBy, Input, Phase, Step};
use passes::{PassEnd, PassKind, PassUse, Refused, Spent};

/// The rules of a site that the life of a check-in depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Pass days and the business's wall clock.
    pub calendar: Calendar,
    /// A tracked check-in is closed after a silence longer than this.
    pub idle_limit: Duration,
    /// How long after an exit, or the last lingering evidence, network evidence opens nothing.
    pub linger: Duration,
    /// How long somebody must have been in before a toggle door lets them out.
    pub toggle_minimum_stay: Duration,
    /// Every visit is a record of its own, also with a day pass.
    pub record_every_visit: bool,
}

/// One check-in, as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Its identity before the database has numbered it.
    pub unique_id: Uuid,
    /// Who.
    pub coworker: CoworkerId,
    /// Where.
    pub business: BusinessId,
    /// The location's name when it was opened.
    pub business_name: Option<String>,
    /// Name, teams and plan when it was opened.
    pub then: Snapshot,
    /// What opened it.
    pub source: CheckinSource,
    /// In.
    pub from: WallTime,
    /// Out; none while open.
    pub to: Option<WallTime>,
    /// Closed by us rather than by an exit.
    pub auto_checkout: bool,
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
}

impl Visit {
    /// Not closed yet.
    pub fn is_open(&self) -> bool {
        self.to.is_none()
    }

    /// Has the network seen a device of theirs during it? Only then does silence mean anything.
    pub fn is_tracked(&self) -> bool {
        self.strong_at.is_some()
    }

    /// Did it begin as the other did, by the same evidence and under the same pass?
    pub fn began_like(&self, other: &Self) -> bool {
        (self.from, self.source, &self.pass) == (other.from, other.source, &other.pass)
    }

    /// The same visit after a step of the clock that wrote it, by so many milliseconds.
    #[must_use]
    pub fn moved(&self, by: i64) -> Self {
        let moved = |at: Option<WallTime>| at.map(|at| at.moved(by));
        Self {
            from: self.from.moved(by),
            to: moved(self.to),
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
            ..self.clone()
        }
    }

    /// Whose it is, as they were when it was opened.
    pub fn person(&self) -> Person {
        Person {
            coworker: self.coworker,
            then: self.then.clone(),
            business: self.business,
            business_name: self.business_name.clone(),
        }
    }

    /// What it uses of passes and limits.
    pub fn spent(&self, calendar: &Calendar) -> Spent {
        Spent {
            coworker: self.coworker,
            pass: self.pass.as_ref().and_then(|pass| pass.guid),
            counts: self.pass.as_ref().is_some_and(|pass| pass.counts_towards_plan_limits),
            from: self.from,
            to: self.to,
            day: calendar.pass_day(self.from),
        }
    }

    /// When its pass stops covering it, if that is before the pass day ends.
    pub fn pass_ends(&self) -> Option<WallTime> {
        self.pass.as_ref().and_then(|pass| pass.ends).map(|(at, _)| at.max(self.from))
    }

    /// It began earlier than was known; what it uses of a pass began then too.
    fn begin_at(&mut self, from: WallTime) {
        let earlier = self.from.since(from);
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
        let end = self.pass_ends().filter(|_| self.auto_checkout && self.is_tracked())?;
        self.to.is_some_and(|to| to < end).then_some(end)
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
            CloseBy::CutOff | CloseBy::PassEnd | CloseBy::Withdrawn if self.is_tracked() => self.last_activity.min(at),
            CloseBy::Exit | CloseBy::CutOff | CloseBy::PassEnd | CloseBy::Withdrawn => at,
        };
        self.to = Some(to.max(self.from));
        self.auto_checkout = match by {
            CloseBy::Exit => false,
            CloseBy::Silence | CloseBy::CutOff | CloseBy::PassEnd | CloseBy::Withdrawn => true,
        };
        if by == CloseBy::Exit {
            self.lingered_at = (self.last_activity > at).then_some(self.last_activity);
            self.last_activity = self.last_activity.max(at);
        }
    }
}

/// The visits of one coworker at one business around the time of the claims, earliest first; at most one is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    visits: Vec<Visit>,
}

impl Standing {
    /// From visits in any order.
    pub fn new(mut visits: Vec<Visit>) -> Self {
        visits.sort_by_key(|visit| (visit.from, visit.unique_id));
        Self { visits }
    }

    /// Earliest first.
    pub fn visits(&self) -> &[Visit] {
        &self.visits
    }

    /// The visits alone.
    pub fn into_visits(self) -> Vec<Visit> {
        self.visits
    }

    /// The open visit.
    pub fn open(&self) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.is_open())
    }

    /// Has a door let them in during the pass day of `at`, up to `at`?
    pub fn let_in_by_door(&self, calendar: &Calendar, at: WallTime) -> bool {
        let day = calendar.pass_day(at);
        self.visits.iter().filter_map(|visit| visit.door_in_at).any(|entry| day.contains(entry) && entry <= at)
    }

    /// The last visit that had begun by then.
    fn before(&self, at: WallTime) -> Option<usize> {
        self.visits.iter().rposition(|visit| visit.from <= at)
    }

    fn open_mut(&mut self) -> Option<&mut Visit> {
        self.visits.iter_mut().find(|visit| visit.is_open())
    }

    fn insert(&mut self, visit: Visit) -> Uuid {
        let unique_id = visit.unique_id;
        let at = self.visits.partition_point(|known| known.from <= visit.from);
        self.visits.insert(at, visit);
        unique_id
    }
}

/// Whose timeline it is, and what is true of them now: a visit that is opened keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub coworker: CoworkerId,
    /// Name, teams and plan.
    pub then: Snapshot,
    /// Where.
    pub business: BusinessId,
    /// The location's name.
    pub business_name: Option<String>,
}

/// What is claimed about a coworker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A door said something at this instant.
    Door {
        /// What the door's configuration makes of it.
        action: DoorClaim,
        /// When.
        at: WallTime,
    },
    /// The network saw a device of theirs.
    Network {
        /// The device.
        mac: MacAddr,
        /// Start of the unbroken presence.
        since: WallTime,
        /// First evidence of this hand-over.
        first_at: WallTime,
        /// Last evidence of this hand-over.
        last_at: WallTime,
        /// Last strong evidence of this hand-over.
        strong_at: Option<WallTime>,
    },
    /// The directory says that they may no longer be in.
    Withdrawn {
        /// When that became known here.
        at: WallTime,
    },
}

/// What a door's configuration makes of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorClaim {
    /// In.
    Entry,
    /// Out.
    Exit,
    /// In when out, out when in.
    Toggle,
    /// There.
    Activity,
}

impl Claim {
    /// The instant that the claim is decided at, and so its place in the order.
    pub const fn at(self) -> WallTime {
        match self {
            Self::Door { at, .. } | Self::Withdrawn { at } => at,
            Self::Network { last_at, .. } => last_at,
        }
    }

    /// What a record of it says that it came from.
    pub const fn source(self) -> CheckinSource {
        match self {
            Self::Door { .. } | Self::Withdrawn { .. } => CheckinSource::DoorAccess,
            Self::Network { .. } => CheckinSource::NetworkActivity,
        }
    }

    /// Silence ends with the first evidence, although the claim is decided at the last.
    const fn heard_at(self) -> WallTime {
        match self {
            Self::Door { at, .. } | Self::Withdrawn { at } => at,
            Self::Network { first_at, .. } => first_at,
        }
    }
}

/// A claim, with what was against its coworker when it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The claim.
    pub claim: Claim,
    /// Why it may open nothing, whatever the coworker's visits and passes are: archived, another business, and the like.
    pub barrier: Option<Reason>,
    /// What an earlier directory answered, when the claim was first decided: records are not changed by later edits.
    pub answered: Option<Admission>,
}

/// May a claim open a check-in?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes; by this pass, where one is asked for.
    Admitted(Option<PassUse>),
    /// No, and that is a failed check-in.
    Refused(Refused),
    /// No, and that is nobody's fault (too short a stay, a site where the network opens nothing).
    Held(Note),
}

/// Who says whether a claim may open a check-in: asked only where one would be opened.
pub trait Gate: std::fmt::Debug {
    /// May this claim open a check-in, for somebody who stands there?
    fn admission(&self, told: &Told, standing: &Standing) -> Admission;

    /// May somebody whose pass ends at this instant stay? No claim is made: nobody has said that they are still there, nor
    /// that they left.
    fn stay(&self, at: WallTime, source: CheckinSource, standing: &Standing) -> Admission;
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What became of the claim.
    pub outcome: Outcome,
    /// Why a check-in failed.
    pub reason: Option<Reason>,
    /// What the front desk needs to know besides.
    pub detail: Option<Arc<str>>,
    /// Why nothing was written.
    pub note: Option<Note>,
    /// The visit that was opened, refreshed or closed, or whose phone lingers.
    pub visit: Option<Uuid>,
}

impl Decision {
    /// Only the sighting log is written.
    pub const fn recorded(note: Note) -> Self {
        Self { outcome: Outcome::Recorded, reason: None, detail: None, note: Some(note), visit: None }
    }

    /// A failed check-in is written.
    pub const fn failed(reason: Reason) -> Self {
        Self { outcome: Outcome::Failed, reason: Some(reason), detail: None, note: None, visit: None }
    }

    fn refused(refused: Refused) -> Self {
        Self { detail: refused.detail, ..Self::failed(refused.reason) }
    }

    const fn of(outcome: Outcome, visit: Uuid) -> Self {
        Self { outcome, reason: None, detail: None, note: None, visit: Some(visit) }
    }

    /// The word that explains it in the sighting log; none where the outcome says it all.
    pub fn word(&self) -> Option<&'static str> {
        self.reason.map(Reason::code).or_else(|| self.note.map(Note::word))
    }
}

/// What ends a visit by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timeout {
    /// Nothing was heard for longer than the silence limit, while we could hear.
    Silence,
    /// The pass day ended.
    CutOff,
    /// The pass no longer covers the visit.
    PassEnd,
}

/// A visit that a timer has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub visit: Uuid,
    /// When the timer ran out, which for silence is later than the visit's end.
    pub at: WallTime,
    /// Which timer.
    pub by: CloseBy,
    /// What followed, where a pass ended under somebody of whom nothing was heard either way.
    pub then: Option<Stay>,
}

/// What becomes of somebody whose pass ends while they are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Another pass covers them: a visit of its own.
    On(Uuid),
    /// None does: a failed check-in.
    Refused(Refused),
}

/// One coworker at one business in the order of time; see the module.
pub struct Timeline<'a> {
    person: &'a Person,
    rules: &'a Rules,
    heard: &'a HeardTimes,
    gate: &'a dyn Gate,
    new_id: &'a mut dyn FnMut() -> Uuid,
    standing: Standing,
    ended: Vec<Ended>,
}

impl fmt::Debug for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeline")
            .field("person", self.person)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

impl<'a> Timeline<'a> {
    /// Begins where they stood before the first claim; `new_id` makes the identities of new records.
    pub fn new(
        person: &'a Person,
        rules: &'a Rules,
        heard: &'a HeardTimes,
        gate: &'a dyn Gate,
        new_id: &'a mut dyn FnMut() -> Uuid,
        standing: Standing,
    ) -> Self {
        Self { person, rules, heard, gate, new_id, standing, ended: Vec::new() }
    }

    /// The identity of a new record.
    pub fn new_id(&mut self) -> Uuid {
        (self.new_id)()
    }

    /// Where they stand now.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Where they stand now, for good.
    pub fn into_standing(self) -> Standing {
        self.standing
    }

    /// The visits that timers have ended since this was last asked.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Decides the next claim.
    pub fn decide(&mut self, told: &Told) -> Decision {
        self.run_out(told.claim.heard_at(), told.claim.at());
        self.bridge(&told.claim);
        let (phase, index) = self.phase(&told.claim);
        let claim = self.untoggled(told.claim, phase, index);
        let told = Told { claim, ..told.clone() };
        match life::step(phase, self.input(&claim, index)) {
            Step::Ask => match self.gate.admission(&told, &self.standing) {
                Admission::Admitted(pass) => self.open(&claim, pass),
                Admission::Refused(refused) => Decision::refused(refused),
                Admission::Held(note) => Decision::recorded(note),
            },
            Step::Refresh => self.refresh(&told, index),
            Step::Close(by) => {
                let Some(visit) = self.at(index) else { return Decision::recorded(Note::NotCheckedIn) };
                visit.close(by, claim.at());
                Decision::of(Outcome::Closed, visit.unique_id)
            }
            Step::Linger => {
                let Some(visit) = self.at(index) else { return Decision::recorded(Note::Lingering) };
                visit.lingered_at = visit.lingered_at.max(Some(claim.at()));
                Decision { visit: Some(visit.unique_id), ..Decision::recorded(Note::Lingering) }
            }
            Step::Record(note) => Decision::recorded(note),
            Step::Nothing => Decision::recorded(Note::Late),
        }
    }

    /// Ends what runs out by itself: silence that was longer than the limit before `quiet_until`, and days and passes that
    /// ended by `day_until`.
    pub fn run_out(&mut self, quiet_until: WallTime, day_until: WallTime) {
        while let Some(open) = self.standing.open() {
            let day_end = self.rules.calendar.pass_day(open.from).end;
            let cut_off = (day_end <= day_until).then_some((day_end, CloseBy::CutOff));
            let pass_end = open.pass_ends().filter(|at| *at <= day_until).map(|at| (at, CloseBy::PassEnd));
            let silence = open
                .is_tracked()
                .then(|| self.heard.run_out(open.last_activity, self.rules.idle_limit))
                .flatten()
                .filter(|at| *at < quiet_until)
                .map(|at| (at, CloseBy::Silence));
            let first = [silence, cut_off, pass_end].into_iter().flatten().min_by_key(|(at, _)| *at);
            let Some((at, by)) = first else { return };
            self.end(by, at);
        }
    }

    /// Ends the open visit on a timer that ran out at `at`; says which visit, or none where it no longer applies.
    pub fn time_out(&mut self, timeout: Timeout, at: WallTime) -> Option<Uuid> {
        let phase = if self.standing.open()?.is_tracked() { Phase::Tracked } else { Phase::In };
        let input = match timeout {
            Timeout::Silence => Input::Silence,
            Timeout::CutOff => Input::CutOff,
            Timeout::PassEnd => Input::PassEnd,
        };
        let Step::Close(by) = life::step(phase, input) else { return None };
        self.end(by, at)
    }

    fn end(&mut self, by: CloseBy, at: WallTime) -> Option<Uuid> {
        let visit = self.standing.open_mut()?;
        visit.close(by, at);
        let (unique_id, unheard) = (visit.unique_id, !visit.is_tracked());
        let then = (by == CloseBy::PassEnd && unheard).then(|| self.stay(unique_id, at)).flatten();
        self.ended.push(Ended { visit: unique_id, at, by, then });
        Some(unique_id)
    }

    /// The pass of somebody has ended whom only doors know: nobody has said that they left. Another pass takes over where
    /// there is one; else the front desk is told. Of whom the network hears, it will say whether they are still there.
    fn stay(&mut self, ended: Uuid, at: WallTime) -> Option<Stay> {
        let visit = self.standing.visits.iter().find(|visit| visit.unique_id == ended)?.clone();
        match self.gate.stay(at, visit.source, &self.standing) {
            Admission::Admitted(pass) => {
                let unique_id = self.new_id();
                let next = Visit {
                    unique_id,
                    from: at,
                    to: None,
                    auto_checkout: false,
                    last_activity: at,
                    macs: BTreeSet::new(),
                    strong_at: None,
                    lingered_at: None,
                    pass,
                    ..visit
                };
                Some(Stay::On(self.standing.insert(next)))
            }
            Admission::Refused(refused) => Some(Stay::Refused(refused)),
            Admission::Held(_) => None,
        }
    }

    /// Somebody whose visit was closed at their last activity, because their pass ended, is heard of again before a silence
    /// would have closed it: then they were there, and used the pass, to its end.
    fn bridge(&mut self, claim: &Claim) {
        let weak = matches!(claim, Claim::Network { strong_at: None, .. } | Claim::Withdrawn { .. });
        let Some(index) = self.standing.before(claim.at()).filter(|_| !weak && self.standing.open().is_none()) else {
            return;
        };
        let Some(visit) = self.standing.visits.get_mut(index) else { return };
        let silence = self.heard.run_out(visit.last_activity, self.rules.idle_limit);
        let day = self.rules.calendar.pass_day(visit.from);
        if let Some(end) = visit.cut_short()
            && end <= claim.at()
            && day.contains(claim.at())
            && silence.is_none_or(|silence| silence >= claim.heard_at())
        {
            visit.to = Some(end);
        }
    }

    fn at(&mut self, index: Option<usize>) -> Option<&mut Visit> {
        index.and_then(|index| self.standing.visits.get_mut(index))
    }

    /// Where the coworker stands, and the visit that this is about.
    fn phase(&self, claim: &Claim) -> (Phase, Option<usize>) {
        if let Some(index) = self.standing.visits.iter().position(Visit::is_open) {
            let tracked = self.standing.visits.get(index).is_some_and(Visit::is_tracked);
            return (if tracked { Phase::Tracked } else { Phase::In }, Some(index));
        }
        let previous = self.standing.before(claim.at());
        let left =
            previous.and_then(|index| self.standing.visits.get(index)).is_some_and(|visit| self.lingers(visit, claim));
        (if left { Phase::Left } else { Phase::Out }, previous)
    }

    /// Is this network evidence only the phone in the pocket of somebody who is leaving?
    fn lingers(&self, visit: &Visit, claim: &Claim) -> bool {
        let Claim::Network { first_at, last_at, .. } = *claim else {
            return false;
        };
        let Some(to) = visit.to.filter(|_| visit.left_by_exit()) else {
            return false;
        };
        first_at <= visit.followed_until(self.rules) && last_at <= to.plus(self.rules.idle_limit)
    }

    /// What a tap at a toggle door means where the coworker stands: toggles flip what *doors* have said, so the first tap
    /// during a visit that the network opened is an entry, and a tap within the minimum stay is neither.
    fn untoggled(&self, claim: Claim, phase: Phase, index: Option<usize>) -> Claim {
        let Claim::Door { action: DoorClaim::Toggle, at } = claim else {
            return claim;
        };
        let entered = index.and_then(|index| self.standing.visits.get(index)).and_then(|visit| visit.door_in_at);
        let action = match (phase, entered) {
            (Phase::In | Phase::Tracked, Some(entered)) if at >= entered.plus(self.rules.toggle_minimum_stay) => {
                DoorClaim::Exit
            }
            (Phase::In | Phase::Tracked, Some(_)) => DoorClaim::Activity,
            (Phase::In | Phase::Tracked | Phase::Out | Phase::Left, _) => DoorClaim::Entry,
        };
        Claim::Door { action, at }
    }

    fn input(&self, claim: &Claim, index: Option<usize>) -> Input {
        match *claim {
            Claim::Door { action, .. } => match action {
                DoorClaim::Entry | DoorClaim::Toggle => Input::Entry,
                DoorClaim::Exit => Input::Exit,
                DoorClaim::Activity => Input::Activity,
            },
            Claim::Network { strong_at: Some(_), .. } => Input::Strong,
            Claim::Network { strong_at: None, last_at, .. } => Input::Weak {
                fresh: index
                    .and_then(|index| self.standing.visits.get(index))
                    .and_then(|visit| visit.strong_at)
                    .is_some_and(|strong| last_at <= strong.plus(self.rules.idle_limit.saturating_mul(2))),
            },
            Claim::Withdrawn { .. } => Input::Withdrawn,
        }
    }

    fn open(&mut self, claim: &Claim, pass: Option<PassUse>) -> Decision {
        if let Some(index) = self.same_block(claim, pass.as_ref())
            && let Some(visit) = self.standing.visits.get_mut(index)
        {
            (visit.to, visit.auto_checkout, visit.lingered_at, visit.pass) = (None, false, None, pass);
            freshen(visit, claim);
            return Decision::of(Outcome::Opened, visit.unique_id);
        }
        let mut visit = Visit {
            unique_id: self.new_id(),
            coworker: self.person.coworker,
            business: self.person.business,
            business_name: self.person.business_name.clone(),
            then: self.person.then.clone(),
            source: claim.source(),
            from: self.began(claim),
            to: None,
            auto_checkout: false,
            last_activity: claim.at(),
            macs: BTreeSet::new(),
            door_in_at: None,
            strong_at: None,
            lingered_at: None,
            pass,
        };
        freshen(&mut visit, claim);
        Decision::of(Outcome::Opened, self.standing.insert(visit))
    }

    /// With a day pass the day is one block, from first in to last out: the visit of that day with that pass, if a return
    /// opens it again.
    fn same_block(&self, claim: &Claim, pass: Option<&PassUse>) -> Option<usize> {
        let pass = pass.filter(|pass| pass.kind == PassKind::Day && !self.rules.record_every_visit)?;
        let index = self.standing.before(claim.at())?;
        let visit = self.standing.visits.get(index)?;
        let same = visit.pass.as_ref().is_some_and(|known| known.kind == PassKind::Day && known.guid == pass.guid);
        (same && self.rules.calendar.pass_day(visit.from).contains(claim.at())).then_some(index)
    }

    /// When somebody whom a claim brings in was first there: for the network the start of the unbroken presence, but not
    /// before what is known about the previous visit, and not before the pass day.
    fn began(&self, claim: &Claim) -> WallTime {
        match *claim {
            Claim::Door { at, .. } | Claim::Withdrawn { at } => at,
            Claim::Network { since, first_at, last_at, strong_at, .. } => {
                let evidence = strong_at.unwrap_or(last_at);
                let previous = self.standing.before(last_at).and_then(|index| self.standing.visits.get(index));
                if previous.is_some_and(|visit| visit.left_by_exit() && first_at <= visit.followed_until(self.rules)) {
                    return evidence;
                }
                let day = self.rules.calendar.pass_day(last_at).start;
                let left = previous.and_then(|visit| visit.to.max(visit.lingered_at));
                let after = |at: &WallTime| *at >= day && left.is_none_or(|left| *at > left);
                [since, first_at].into_iter().find(after).unwrap_or(evidence)
            }
        }
    }

    fn refresh(&mut self, told: &Told, index: Option<usize>) -> Decision {
        let claim = &told.claim;
        let from = index.and_then(|index| self.earlier_beginning(told, index));
        let Some(visit) = self.at(index) else { return Decision::recorded(Note::NotCheckedIn) };
        if let Some(from) = from {
            visit.begin_at(from);
            visit.source = claim.source();
        }
        freshen(visit, claim);
        Decision::of(Outcome::Refreshed, visit.unique_id)
    }

    /// When somebody who is in was there before: a device that was seen, with the right to open, before the door opened
    /// this first visit of the day, or anything before a visit that a wrong clock began.
    fn earlier_beginning(&self, told: &Told, index: usize) -> Option<WallTime> {
        let claim = &told.claim;
        let visit = self.standing.visits.get(index)?;
        if claim.at() < visit.from {
            return Some(claim.at());
        }
        let Claim::Network { first_at, strong_at: Some(_), .. } = *claim else { return None };
        let day = self.rules.calendar.pass_day(visit.from);
        let first_of_day = index
            .checked_sub(1)
            .and_then(|previous| self.standing.visits.get(previous))
            .is_none_or(|previous| !day.contains(previous.from));
        if !first_of_day || !day.contains(first_at) || first_at >= visit.from {
            return None;
        }
        let mut without = self.standing.clone();
        without.visits.remove(index);
        match self.gate.admission(told, &without) {
            Admission::Admitted(_) => Some(first_at),
            Admission::Refused(_) | Admission::Held(_) => None,
        }
    }
}

/// Brings a visit up to date with a claim; nothing in it ever moves backwards.
fn freshen(visit: &mut Visit, claim: &Claim) {
    visit.last_activity = visit.last_activity.max(claim.at());
    match *claim {
        Claim::Door { action: DoorClaim::Entry | DoorClaim::Toggle, at } => {
            visit.door_in_at = visit.door_in_at.max(Some(at));
        }
        Claim::Door { action: DoorClaim::Exit | DoorClaim::Activity, .. } | Claim::Withdrawn { .. } => {}
        Claim::Network { mac, strong_at, .. } => {
            visit.macs.insert(mac);
            visit.strong_at = visit.strong_at.max(strong_at);
        }
    }
}

#[cfg(test)]
mod tests;
