//! PURE. The state of a person that later decisions depend on, and what can be answered from it alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{known_edits::KnownEdits, visit::Visit};
use crate::{
    base::{
        clock::WallTime,
        fact::{FactDigest, FactOrder, TapId},
        mac::MacAddr,
        record::{BusinessId, CoworkerId},
    },
    engine::{
        DoorClaim,
        decision::Reason,
        identity,
        passes::{PlanTally, Used, payg::Charged},
    },
    policy::{
        Rules,
        calendar::{Calendar, PassDay},
    },
};

/// How many visits a later claim may still change: the last, and the one before it, which shows whether the last is the
/// first of its day. Older ones are only counted.
pub const STILL_OPEN_TO_CHANGE: usize = 2;

/// A refusal of a device that has already been written in its pass day.
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
    /// The charges.
    pub charged: Charged,
}

/// Everything about a person that later decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonState {
    /// The place in the order up to which everything is included.
    pub folded: FactOrder,
    /// The newest version of the directory that was used. A newer version that came into force before `folded` is late.
    pub directory: i64,
    /// Where and when silence last ended a visit: evidence from there up to that instant is late.
    pub silent_at: Option<(BusinessId, WallTime)>,
    /// The last visits, earliest first; at most one is open.
    pub visits: Vec<Visit>,
    /// For each tap, until when another read of it is a repeat.
    pub taps: Vec<(TapId, WallTime)>,
    /// The last door entry at each business.
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
    /// What edits say about times that are not folded yet.
    pub edits: Vec<KnownEdits>,
    /// The end of the last absence that an edit has set at each business.
    pub absent_until: Vec<(BusinessId, WallTime)>,
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
            edits: Vec::new(),
            absent_until: Vec::new(),
        }
    }
}

/// The identity of the visit that a fact opens.
pub fn visit_of(opening: FactDigest) -> Uuid {
    identity([opening.0.as_slice(), b"visit"])
}

/// Stands in for the fact in the identity of the next visit that it opens, after the pass of the previous visit was
/// used up.
pub(super) fn next_opening(opening: FactDigest) -> FactDigest {
    FactDigest::of([opening.0.as_slice(), b"went on"])
}

/// The most visits that one fact can open: no one has this many passes that end within one presence.
const OPENED_BY_ONE: usize = 8;

/// The identities of all visits that a fact may open.
pub fn visits_of(opening: FactDigest) -> impl Iterator<Item = Uuid> {
    std::iter::successors(Some(opening), |before| Some(next_opening(*before))).take(OPENED_BY_ONE).map(visit_of)
}

impl PersonState {
    /// The open visit.
    pub fn open(&self) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.is_open())
    }

    /// The visit with this identity, if it may still change.
    pub fn visit(&self, unique_id: Uuid) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.unique_id == unique_id)
    }

    /// What they have used of the passes that `asked` selects, including visits that may still change. `basis_of`
    /// returns the time from which the use of a pass counts.
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

    /// Remembers the pass day of a visit at a business.
    pub(super) fn came_on(&mut self, business: BusinessId, day: PassDay) {
        self.came.retain(|(known, _)| *known != business);
        self.came.push((business, day.start));
    }

    /// Remembers that a door, or a person at a desk, let them in.
    pub(super) fn let_in_at(&mut self, business: BusinessId, at: WallTime) {
        self.let_in.retain(|(known, _)| *known != business);
        self.let_in.push((business, at));
    }

    /// Whether a door let them in at this business in the pass day of `at`, at or before `at`.
    pub fn let_in_by_door(&self, business: BusinessId, calendar: &Calendar, at: WallTime) -> bool {
        let day = calendar.pass_day(at);
        self.let_in.iter().any(|(place, entry)| *place == business && day.contains(*entry) && *entry <= at)
    }

    /// Whether this tap repeats one that was read just before. It is remembered: reads of a card left at a reader are
    /// one tap until there is a gap.
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

    /// Whether a tap at a door would end their open visit as an exit. The tap is not remembered.
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

    /// Whether this refusal of a device has already been written in the pass day. If not, it is remembered.
    pub fn refused_before(&mut self, refused: RefusedDevice) -> bool {
        self.refused.retain(|known| known.business != refused.business || known.day >= refused.day);
        let known = self.refused.contains(&refused);
        if !known {
            self.refused.push(refused);
        }
        known
    }

    /// Removes the oldest visit, if no claim can change it any more.
    pub fn settled(&mut self) -> Option<Visit> {
        (self.visits.len() > STILL_OPEN_TO_CHANGE).then(|| self.visits.remove(0))
    }

    /// The visit at this index among those that may still change.
    pub(super) fn visit_at(&mut self, index: Option<usize>) -> Option<&mut Visit> {
        index.and_then(|index| self.visits.get_mut(index))
    }
}
