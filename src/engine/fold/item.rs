//! PURE. What is folded: facts and points of presences in the order of time, and the evidence that is still to come.

use std::collections::BTreeMap;

use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, FactOrder, Point, Subject},
        mac::MacAddr,
        record::BusinessId,
    },
    engine::person::{PersonState, Visit},
};

/// One fact, or one point of a presence, in the order of time.
#[derive(Clone, Copy, Debug)]
pub struct FoldItem<'a> {
    /// Its place.
    pub place: FactOrder,
    /// Whose it is.
    pub subject: Subject,
    /// Where.
    pub business: BusinessId,
    /// What.
    pub what: What<'a>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// At a door.
    Door(&'a DoorFact),
    /// On the network.
    Seen(MacAddr, Point),
}

impl<'a> FoldItem<'a> {
    /// A door's.
    pub const fn door(fact: &'a DoorFact) -> Self {
        Self { place: fact.place(), subject: fact.subject, business: fact.business, what: What::Door(fact) }
    }

    /// A device's.
    pub fn seen(subject: Subject, business: BusinessId, mac: MacAddr, point: Point) -> Self {
        Self { place: point.place(business, mac), subject, business, what: What::Seen(mac, point) }
    }

    /// When it was first seen: silence ends with the first evidence, although the item is decided at the last.
    pub const fn seen_at(&self) -> WallTime {
        match &self.what {
            What::Door(fact) => fact.at,
            What::Seen(_, point) => point.first_at,
        }
    }

    /// Does it belong before something that has already been decided?
    pub fn is_late(&self, person: &PersonState) -> bool {
        let silent = person.silent_at.filter(|(business, _)| *business == self.business);
        // An exit in the very instant in which a timer ended the visit is in time.
        let ended_now = |visit: &Visit| visit.auto_checkout && visit.ends_at_last().0 == self.place.at;
        self.place <= person.folded
            || self.place.ties_with(&person.folded)
            || silent.is_some_and(|(_, silent)| self.seen_at() <= silent)
            || matches!(self.what, What::Door(_)) && person.visits.iter().any(ended_now)
    }
}

/// At every point of the fold: the earliest evidence still to come of each person at each business.
#[derive(Debug, Default)]
pub(super) struct Upcoming {
    /// By item: the earliest evidence of that item and of all later ones, last item first.
    heard: BTreeMap<(Subject, BusinessId), Vec<(usize, WallTime)>>,
}

impl Upcoming {
    pub(super) fn of(items: &[FoldItem<'_>]) -> Self {
        let mut heard: BTreeMap<(Subject, BusinessId), Vec<(usize, WallTime)>> = BTreeMap::new();
        for (index, item) in items.iter().enumerate().rev() {
            let of = heard.entry((item.subject, item.business)).or_default();
            let earliest = of.last().map_or(item.seen_at(), |(_, later)| item.seen_at().min(*later));
            of.push((index, earliest));
        }
        Self { heard }
    }

    pub(super) fn next(&self, subject: Subject, business: BusinessId) -> Option<WallTime> {
        self.heard.get(&(subject, business)).and_then(|of| of.last()).map(|(_, at)| *at)
    }

    pub(super) fn passed(&mut self, item: &FoldItem<'_>, index: usize) {
        if let Some(of) = self.heard.get_mut(&(item.subject, item.business)) {
            while of.last().is_some_and(|(known, _)| *known <= index) {
                of.pop();
            }
        }
    }
}
