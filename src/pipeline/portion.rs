//! PURE. What of a batch is decided in one transaction.
//!
//! Mostly all of it. Of people who may use the same pass only one at a time, in the order of what happened, because what one
//! of them does decides whether the next may come in; and not more people than whose logs can be read at once.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::questions;
use crate::{
    clock::WallTime,
    directory::Directory,
    engine::passes::PassPolicy,
    record::CoworkerId,
    sighting::{Presence, Sighting},
    source::{Content, Delivery, Rejection},
};

/// A sighting or a presence, and whose card or device it was, if it is one person's.
pub(super) type Whose<'a, T> = (&'a T, Option<CoworkerId>);

/// A batch as it was received, or a part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Portion<'a> {
    pub(super) sightings: Vec<Whose<'a, Sighting>>,
    pub(super) presences: Vec<Whose<'a, Presence>>,
    /// With their sources, and whether they get a line in the log.
    pub(super) rejections: Vec<(&'a str, &'a Rejection, bool)>,
    /// Until when the time of some of them is walked: then comes what others do who wait for the same passes.
    pub(super) until: BTreeMap<CoworkerId, WallTime>,
}

impl<'a> Portion<'a> {
    /// All of a batch.
    pub(super) fn of(
        deliveries: &'a [Delivery],
        presences: &'a [Presence],
        written_rejections: &[bool],
        directory: &Directory,
    ) -> Self {
        let sightings = deliveries.iter().flat_map(|delivery| match &delivery.content {
            Content::Sightings(sightings) => sightings.as_slice(),
            Content::Ignored | Content::Rejected(_) => &[],
        });
        let rejections = deliveries.iter().filter_map(|delivery| match &delivery.content {
            Content::Rejected(rejection) => Some((&*delivery.source, rejection)),
            Content::Sightings(_) | Content::Ignored => None,
        });
        Self {
            sightings: sightings.map(|sighting| (sighting, questions::by_door(sighting, directory))).collect(),
            presences: presences
                .iter()
                .map(|presence| (presence, questions::by_network(presence, directory)))
                .collect(),
            rejections: rejections
                .zip(written_rejections)
                .map(|((from, what), written)| (from, what, *written))
                .collect(),
            until: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sightings.is_empty() && self.presences.is_empty() && self.rejections.is_empty()
    }

    /// What is decided now, and what must wait for a turn of its own. Of whoever `is_in`, a presence needs none, as long as no
    /// door says anything of them.
    pub(super) fn in_turn(&self, turns: &mut Turns<'_>, is_in: impl Fn(CoworkerId) -> bool) -> (Self, Self) {
        let mut items = Vec::new();
        for (index, (sighting, coworker)) in self.sightings.iter().enumerate() {
            items.push((sighting.event_at, true, index, *coworker));
        }
        let at_doors: BTreeSet<CoworkerId> = items.iter().filter_map(|(.., coworker)| *coworker).collect();
        for (index, (presence, coworker)) in self.presences.iter().enumerate() {
            let asks = coworker.filter(|coworker| at_doors.contains(coworker) || !is_in(*coworker));
            items.push((presence.last_at, false, index, asks));
        }
        items.sort_unstable();
        let (mut now, mut later) = (Self { rejections: self.rejections.clone(), ..Self::default() }, Self::default());
        for (at, by_door, index, coworker) in items {
            let portion = if coworker.is_none_or(|coworker| turns.takes(coworker, at)) { &mut now } else { &mut later };
            if by_door {
                portion.sightings.push(self.sightings[index]);
            } else {
                portion.presences.push(self.presences[index]);
            }
        }
        now.until = turns.until();
        (now, later)
    }

    /// What is decided now, and what is left of these people for later.
    pub(super) fn without(&self, postponed: &BTreeSet<CoworkerId>) -> (Self, Self) {
        let (mut now, mut later) = (self.clone(), Self::default());
        if !postponed.is_empty() {
            let waits = |coworker: Option<CoworkerId>| coworker.is_some_and(|coworker| postponed.contains(&coworker));
            later.sightings = now.sightings.extract_if(.., |(_, coworker)| waits(*coworker)).collect();
            later.presences = now.presences.extract_if(.., |(_, coworker)| waits(*coworker)).collect();
        }
        (now, later)
    }

    /// Both together.
    pub(super) fn and(mut self, more: Self) -> Self {
        self.sightings.extend(more.sightings);
        self.presences.extend(more.presences);
        self.rejections.extend(more.rejections);
        self
    }
}

/// Whose turn it is in a transaction, of people who may use the same pass.
#[derive(Debug)]
pub(super) struct Turns<'a> {
    directory: &'a Directory,
    asks: bool,
    /// Whose turn it is with a pass.
    whose: BTreeMap<Uuid, CoworkerId>,
    /// The turn is over then: somebody else waits for it.
    over: BTreeMap<Uuid, WallTime>,
}

impl<'a> Turns<'a> {
    pub(super) fn new(directory: &'a Directory, policy: &PassPolicy) -> Self {
        Self { directory, asks: policy.asks(directory), whose: BTreeMap::new(), over: BTreeMap::new() }
    }

    /// Is it the turn of this person, who did something then? Asked in the order of time.
    pub(super) fn takes(&mut self, coworker: CoworkerId, at: WallTime) -> bool {
        if !self.asks || !self.directory.shares_passes(coworker) {
            return true;
        }
        let passes: Vec<Uuid> = self.directory.usable(coworker).map(|held| held.guid).collect();
        let theirs =
            |pass: &Uuid| !self.over.contains_key(pass) && self.whose.get(pass).is_none_or(|whose| *whose == coworker);
        if passes.iter().all(theirs) {
            self.whose.extend(passes.into_iter().map(|pass| (pass, coworker)));
            true
        } else {
            for pass in passes {
                self.over.entry(pass).or_insert(at);
            }
            false
        }
    }

    /// When the turn of each is over; none of those for whom nobody waits.
    fn until(&self) -> BTreeMap<CoworkerId, WallTime> {
        let mut until: BTreeMap<CoworkerId, WallTime> = BTreeMap::new();
        for (pass, coworker) in &self.whose {
            if let Some(over) = self.over.get(pass) {
                let known = until.entry(*coworker).or_insert(*over);
                *known = (*known).min(*over);
            }
        }
        until
    }
}
