//! PURE. The input of a fold: facts and points of presences in time order, and the evidence still to come.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, EditFact, FactOrder, Point, Subject},
        mac::MacAddr,
        record::BusinessId,
    },
    engine::person::{PersonState, Visit, visits_of},
};

/// One fact, or one point of a presence.
#[derive(Clone, Copy, Debug)]
pub struct FoldItem<'a> {
    /// Its place in the order.
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
    /// Through the API.
    Edit(&'a EditFact),
    /// Through the API: a check-in that admission has to allow.
    Asked(&'a EditFact),
}

impl<'a> FoldItem<'a> {
    /// An item for a door fact.
    pub const fn door(fact: &'a DoorFact) -> Self {
        Self { place: fact.place(), subject: fact.subject, business: fact.business, what: What::Door(fact) }
    }

    /// An item for a point of a device's presence.
    pub fn seen(subject: Subject, business: BusinessId, mac: MacAddr, point: Point) -> Self {
        Self { place: point.place(business, mac), subject, business, what: What::Seen(mac, point) }
    }

    /// An item for an edit. `asks` is whether admission has to allow it.
    pub fn edit(edit: &'a EditFact, asks: bool) -> Self {
        let what = if asks { What::Asked(edit) } else { What::Edit(edit) };
        Self { place: edit.place(), subject: edit.subject, business: edit.business, what }
    }

    /// When the person was first seen: the first evidence ends the silence, although the item is decided at the last.
    pub const fn seen_at(&self) -> WallTime {
        match &self.what {
            What::Door(_) | What::Edit(_) | What::Asked(_) => self.place.at,
            What::Seen(_, point) => point.first_at,
        }
    }

    /// Whether it is evidence that the person was there.
    const fn is_evidence(&self) -> bool {
        match &self.what {
            What::Door(_) | What::Seen(..) => true,
            What::Edit(_) | What::Asked(_) => false,
        }
    }

    /// The identities of the visits that it may open.
    pub fn may_open(&self) -> Vec<Uuid> {
        match self.what {
            What::Door(_) | What::Seen(..) => visits_of(self.place.digest).collect(),
            What::Edit(edit) | What::Asked(edit) => vec![edit.visit],
        }
    }

    /// Whether it belongs before what has been folded up to this place. What edits set to begin at an instant begins once
    /// all edits of that instant are known, so an edit belongs before everything else of its instant.
    pub fn is_behind(&self, folded: FactOrder) -> bool {
        match self.what {
            What::Door(_) | What::Seen(..) => self.place <= folded,
            What::Edit(_) | What::Asked(_) => self.place.at <= folded.at,
        }
    }

    /// Whether it belongs before something that has already been decided.
    pub fn is_late(&self, person: &PersonState) -> bool {
        let silent = person.silent_at.filter(|(business, _)| *business == self.business);
        // An exit at the very instant when a timer ended the visit must come before the timer.
        let ended_now = |visit: &Visit| visit.auto_checkout && visit.ends_at_last().0 == self.place.at;
        self.is_behind(person.folded)
            || self.place.ties_with(&person.folded)
            || silent.is_some_and(|(_, silent)| self.seen_at() <= silent)
            || matches!(self.what, What::Door(_)) && person.visits.iter().any(ended_now)
    }
}

/// For each person at each business, the earliest evidence still to come at every point of the fold.
#[derive(Debug, Default)]
pub(super) struct Upcoming {
    /// For each item, the earliest evidence of it and of all later ones; last item first.
    heard: BTreeMap<(Subject, BusinessId), Vec<(usize, WallTime)>>,
}

impl Upcoming {
    pub(super) fn of(items: &[FoldItem<'_>]) -> Self {
        let mut heard: BTreeMap<(Subject, BusinessId), Vec<(usize, WallTime)>> = BTreeMap::new();
        for (index, item) in items.iter().enumerate().rev().filter(|(_, item)| item.is_evidence()) {
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
