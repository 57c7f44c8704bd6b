//! PURE. Decides what a claim does to a coworker's check-ins. No I/O, no clock, no randomness: `now` and ids are handed in.
//!
//! [`decide`] takes where one coworker stands (their visits around the time of the claim), what is claimed, and the
//! rules of the site; it changes the visits and says what it did. The database has the last word: what is changed here
//! is written conditionally, and a conflict is decided again on fresh visits.

pub mod admission;
pub mod calendar;
pub mod decision;
pub mod life;
pub mod passes;

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;

use crate::{
    clock::WallTime,
    mac::MacAddr,
    record::{BusinessId, CheckinSource, CoworkerId, Snapshot},
};
use calendar::Calendar;
use decision::{Note, Outcome, Reason};
use life::{Admission, CloseBy, Input, Phase, Step};

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
            ..self.clone()
        }
    }

    fn covers(&self, at: WallTime) -> bool {
        self.from <= at && self.to.is_none_or(|to| at <= to)
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
            CloseBy::CutOff if self.is_tracked() => self.last_activity.min(at),
            CloseBy::Exit | CloseBy::CutOff => at,
        };
        self.to = Some(to.max(self.from));
        self.auto_checkout = match by {
            CloseBy::Exit => false,
            CloseBy::Silence | CloseBy::CutOff => true,
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

    /// The open visit.
    pub fn open(&self) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.is_open())
    }

    /// Has a door let them in during the pass day of `at`, up to `at`?
    pub fn let_in_by_door(&self, calendar: &Calendar, at: WallTime) -> bool {
        let day = calendar.pass_day(at);
        self.visits.iter().filter_map(|visit| visit.door_in_at).any(|entry| day.contains(entry) && entry <= at)
    }

    fn before(&self, at: WallTime) -> Option<usize> {
        self.visits.iter().rposition(|visit| visit.from <= at)
    }

    fn insert(&mut self, visit: Visit) -> Uuid {
        let unique_id = visit.unique_id;
        let at = self.visits.partition_point(|known| known.from <= visit.from);
        self.visits.insert(at, visit);
        unique_id
    }
}

/// What is claimed about a coworker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who.
    pub coworker: CoworkerId,
    /// What.
    pub kind: ClaimKind,
    /// May it open a check-in?
    pub admission: Admission,
    /// The identity of the check-in that it may open.
    pub new_visit: Uuid,
    /// What is true of the coworker now.
    pub then: Snapshot,
    /// Where.
    pub business: BusinessId,
    /// The location's name now.
    pub business_name: Option<String>,
}

/// What a claim says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
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

impl ClaimKind {
    /// The instant that the claim is decided at.
    pub fn at(self) -> WallTime {
        match self {
            Self::Door { at, .. } => at,
            Self::Network { last_at, .. } => last_at,
        }
    }

    fn source(self) -> CheckinSource {
        match self {
            Self::Door { .. } => CheckinSource::DoorAccess,
            Self::Network { .. } => CheckinSource::NetworkActivity,
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What became of the claim.
    pub outcome: Outcome,
    /// Why a check-in failed.
    pub reason: Option<Reason>,
    /// Why nothing was written.
    pub note: Option<Note>,
    /// The visit that was opened, refreshed or closed, or whose phone lingers.
    pub visit: Option<Uuid>,
}

impl Decision {
    /// Only the sighting log is written.
    pub const fn recorded(note: Note) -> Self {
        Self { outcome: Outcome::Recorded, reason: None, note: Some(note), visit: None }
    }

    /// A failed check-in is written.
    pub const fn failed(reason: Reason) -> Self {
        Self { outcome: Outcome::Failed, reason: Some(reason), note: None, visit: None }
    }

    const fn of(outcome: Outcome, visit: Uuid) -> Self {
        Self { outcome, reason: None, note: None, visit: Some(visit) }
    }

    /// The word that explains it in the sighting log; none where the outcome says it all.
    pub fn word(&self) -> Option<&'static str> {
        self.reason.map(Reason::code).or_else(|| self.note.map(Note::word))
    }
}

/// Decides one claim. Visits that it changed, besides the one in the decision, are those whose pass day it ended.
pub fn decide(standing: &mut Standing, mut claim: Claim, rules: &Rules, now: WallTime) -> Decision {
    let at = claim.kind.at();
    end_pass_day(standing, rules, at);
    let (phase, index) = phase(standing, &claim.kind, rules);
    claim.kind = untoggled(standing, claim.kind, phase, index, rules);
    let input = input(standing, &claim.kind, index, rules);
    match life::step(phase, input, claim.admission) {
        Step::Open => open(standing, claim, rules, now),
        Step::Refresh => refresh(standing, &claim, index, rules),
        Step::MoveBack => move_back(standing, &claim, index, rules),
        Step::Close(by) => {
            let Some(visit) = index.and_then(|index| standing.visits.get_mut(index)) else {
                return Decision::recorded(Note::NotCheckedIn);
            };
            visit.close(by, at);
            Decision::of(Outcome::Closed, visit.unique_id)
        }
        Step::Linger => {
            let Some(visit) = index.and_then(|index| standing.visits.get_mut(index)) else {
                return Decision::recorded(Note::Lingering);
            };
            visit.lingered_at = visit.lingered_at.max(Some(at));
            Decision { visit: Some(visit.unique_id), ..Decision::recorded(Note::Lingering) }
        }
        Step::Fail(reason) => Decision::failed(reason),
        Step::Record(note) => Decision::recorded(note),
        Step::Nothing => Decision::recorded(Note::Late),
    }
}

/// A tracked visit after too long a silence, or any visit after its cut-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timeout {
    /// Nothing was heard for longer than the silence limit, while we could hear.
    Silence,
    /// The pass day ended.
    CutOff,
}

/// Closes the open visit on a timer; says which visit, or none where the timer no longer applies.
pub fn time_out(standing: &mut Standing, timeout: Timeout, rules: &Rules) -> Option<Uuid> {
    let visit = standing.visits.iter_mut().find(|visit| visit.is_open())?;
    let phase = if visit.is_tracked() { Phase::Tracked } else { Phase::In };
    let input = match timeout {
        Timeout::Silence => Input::Silence,
        Timeout::CutOff => Input::CutOff,
    };
    let Step::Close(by) = life::step(phase, input, Admission::Admitted) else {
        return None;
    };
    visit.close(by, rules.calendar.pass_day(visit.from).end);
    Some(visit.unique_id)
}

/// A claim from after the cut-off ends the day of a visit whose timer has not fired yet.
fn end_pass_day(standing: &mut Standing, rules: &Rules, at: WallTime) {
    for visit in standing.visits.iter_mut().filter(|visit| visit.is_open()) {
        let end = rules.calendar.pass_day(visit.from).end;
        if end <= at {
            visit.close(CloseBy::CutOff, end);
        }
    }
}

/// Where the coworker stood at the time of the claim, and the visit that this is about.
fn phase(standing: &Standing, kind: &ClaimKind, rules: &Rules) -> (Phase, Option<usize>) {
    let at = kind.at();
    let previous = standing.before(at);
    if let Some(index) = previous
        && let Some(visit) = standing.visits.get(index)
        && visit.covers(at)
    {
        let phase = match (visit.is_open(), visit.is_tracked()) {
            (true, true) => Phase::Tracked,
            (true, false) => Phase::In,
            (false, _) if visit.auto_checkout => Phase::Lapsed,
            (false, _) => Phase::Covered,
        };
        return (phase, Some(index));
    }
    if let Some(index) = previous
        && let Some(visit) = standing.visits.get(index)
    {
        if lingers(visit, kind, rules) {
            return (Phase::Left, Some(index));
        }
        if lapsed_before(visit, kind, rules) {
            return (Phase::Lapsed, Some(index));
        }
    }
    let next = previous.map_or(0, |index| index + 1);
    if let Some(later) = standing.visits.get(next)
        && rules.calendar.pass_day(at).contains(later.from)
    {
        return (Phase::Before, Some(next));
    }
    (Phase::Out, previous)
}

/// Is this the exit of a visit that we closed at its last activity, because we had not heard of the exit yet? Had it
/// come in time, the visit would have lasted until then.
fn lapsed_before(visit: &Visit, kind: &ClaimKind, rules: &Rules) -> bool {
    let ClaimKind::Door { action: DoorClaim::Exit, at } = *kind else {
        return false;
    };
    visit.auto_checkout
        && visit.is_tracked()
        && at <= visit.last_activity.plus(rules.idle_limit)
        && rules.calendar.pass_day(visit.from).contains(at)
}

/// Is this network evidence only the phone in the pocket of somebody who is leaving?
fn lingers(visit: &Visit, kind: &ClaimKind, rules: &Rules) -> bool {
    let ClaimKind::Network { first_at, last_at, .. } = *kind else {
        return false;
    };
    let Some(to) = visit.to.filter(|_| visit.left_by_exit()) else {
        return false;
    };
    first_at <= visit.followed_until(rules) && last_at <= to.plus(rules.idle_limit)
}

/// What a tap at a toggle door means where the coworker stands: toggles flip what *doors* have said, so the first tap
/// during a visit that the network opened is an entry, and a tap within the minimum stay is neither.
fn untoggled(standing: &Standing, kind: ClaimKind, phase: Phase, index: Option<usize>, rules: &Rules) -> ClaimKind {
    let ClaimKind::Door { action: DoorClaim::Toggle, at } = kind else {
        return kind;
    };
    let entered = index.and_then(|index| standing.visits.get(index)).and_then(|visit| visit.door_in_at);
    let action = match (phase, entered) {
        (Phase::In | Phase::Tracked, Some(entered)) if at >= entered.plus(rules.toggle_minimum_stay) => DoorClaim::Exit,
        (Phase::In | Phase::Tracked, Some(_)) => DoorClaim::Activity,
        (Phase::In | Phase::Tracked | Phase::Out | Phase::Left | Phase::Covered | Phase::Lapsed | Phase::Before, _) => {
            DoorClaim::Entry
        }
    };
    ClaimKind::Door { action, at }
}

fn input(standing: &Standing, kind: &ClaimKind, index: Option<usize>, rules: &Rules) -> Input {
    let visit = index.and_then(|index| standing.visits.get(index));
    match *kind {
        ClaimKind::Door { action, at } => match action {
            DoorClaim::Entry | DoorClaim::Toggle => Input::Entry,
            DoorClaim::Exit => exit_input(visit, at, rules),
            DoorClaim::Activity => Input::Activity,
        },
        ClaimKind::Network { strong_at: Some(_), .. } => Input::Strong,
        ClaimKind::Network { strong_at: None, last_at, .. } => Input::Weak {
            fresh: visit
                .and_then(|visit| visit.strong_at)
                .is_some_and(|strong| last_at <= strong.plus(rules.idle_limit.saturating_mul(2))),
        },
    }
}

/// An exit is overtaken when they are known to have come in, or to have been there, after it. Signs of life within the
/// linger time are the phone leaving with its owner.
fn exit_input(visit: Option<&Visit>, at: WallTime, rules: &Rules) -> Input {
    let overtaken = visit.is_some_and(|visit| {
        visit.door_in_at.is_some_and(|entered| entered > at) || visit.last_activity > at.plus(rules.linger)
    });
    Input::Exit { overtaken }
}

fn open(standing: &mut Standing, claim: Claim, rules: &Rules, now: WallTime) -> Decision {
    let at = claim.kind.at();
    let mut visit = Visit {
        unique_id: claim.new_visit,
        coworker: claim.coworker,
        business: claim.business,
        business_name: claim.business_name,
        then: claim.then,
        source: claim.kind.source(),
        from: began(standing, &claim.kind, rules),
        to: None,
        auto_checkout: false,
        last_activity: at,
        macs: BTreeSet::new(),
        door_in_at: None,
        strong_at: None,
        lingered_at: None,
    };
    freshen(&mut visit, &claim.kind);
    // A visit whose day is over, because its claim came late, is closed at once.
    let end = rules.calendar.pass_day(visit.from).end;
    let next = standing.visits.get(standing.before(at).map_or(0, |index| index + 1));
    if end <= now || next.is_some_and(|later| later.is_open() && end <= later.from) {
        visit.close(CloseBy::CutOff, end);
    }
    Decision::of(Outcome::Opened, standing.insert(visit))
}

/// When somebody whom a claim brings in was first there: for the network the start of the unbroken presence, but not
/// before what is known about the previous visit, and not before the pass day.
fn began(standing: &Standing, kind: &ClaimKind, rules: &Rules) -> WallTime {
    match *kind {
        ClaimKind::Door { at, .. } => at,
        ClaimKind::Network { since, first_at, last_at, strong_at, .. } => {
            let evidence = strong_at.unwrap_or(last_at);
            let previous = standing.before(last_at).and_then(|index| standing.visits.get(index));
            if previous.is_some_and(|visit| visit.left_by_exit() && first_at <= visit.followed_until(rules)) {
                return evidence;
            }
            let day = rules.calendar.pass_day(last_at).start;
            let left = previous.and_then(|visit| visit.to.max(visit.lingered_at));
            let after = |at: &WallTime| *at >= day && left.is_none_or(|left| *at > left);
            [since, first_at].into_iter().find(after).unwrap_or(evidence)
        }
    }
}

fn refresh(standing: &mut Standing, claim: &Claim, index: Option<usize>, rules: &Rules) -> Decision {
    let earlier = index.is_some_and(|index| earlier_on_the_network(standing, claim, index, rules));
    let Some(visit) = index.and_then(|index| standing.visits.get_mut(index)) else {
        return Decision::recorded(Note::NotCheckedIn);
    };
    if earlier && let ClaimKind::Network { first_at, .. } = claim.kind {
        visit.from = first_at;
        visit.source = claim.kind.source();
    }
    freshen(visit, &claim.kind);
    Decision::of(Outcome::Refreshed, visit.unique_id)
}

/// Was the device seen, with the right to open, before the door opened this first visit of the day?
fn earlier_on_the_network(standing: &Standing, claim: &Claim, index: usize, rules: &Rules) -> bool {
    let ClaimKind::Network { first_at, strong_at: Some(_), .. } = claim.kind else {
        return false;
    };
    let day = standing.visits.get(index).map(|visit| (rules.calendar.pass_day(visit.from), visit.from));
    let first_of_day = index == 0
        || standing.visits.get(index - 1).zip(day).is_some_and(|(previous, (day, _))| !day.contains(previous.from));
    claim.admission == Admission::Admitted
        && first_of_day
        && day.is_some_and(|(day, from)| day.contains(first_at) && first_at < from)
}

fn move_back(standing: &mut Standing, claim: &Claim, index: Option<usize>, rules: &Rules) -> Decision {
    let from = began(standing, &claim.kind, rules);
    let Some(visit) = index.and_then(|index| standing.visits.get_mut(index)) else {
        return Decision::recorded(Note::Late);
    };
    visit.from = visit.from.min(from);
    visit.source = claim.kind.source();
    freshen(visit, &claim.kind);
    Decision::of(Outcome::Refreshed, visit.unique_id)
}

/// Brings a visit up to date with a claim; nothing in it ever moves backwards.
fn freshen(visit: &mut Visit, kind: &ClaimKind) {
    visit.last_activity = visit.last_activity.max(kind.at());
    match *kind {
        ClaimKind::Door { action: DoorClaim::Entry | DoorClaim::Toggle, at } => {
            visit.door_in_at = visit.door_in_at.max(Some(at));
        }
        ClaimKind::Door { action: DoorClaim::Exit | DoorClaim::Activity, .. } => {}
        ClaimKind::Network { mac, strong_at, .. } => {
            visit.macs.insert(mac);
            visit.strong_at = visit.strong_at.max(strong_at);
        }
    }
}

#[cfg(test)]
mod tests;
