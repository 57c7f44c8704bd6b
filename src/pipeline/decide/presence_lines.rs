//! PURE. Groups the points of a device into entries of the log of facts. An entry covers at most a quarter of an hour,
//! and never crosses midnight.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    base::{
        clock::WallTime,
        fact::{Fact, LOG_SPAN, LogDay, PresenceFact, Subject},
        mac::MacAddr,
        record::BusinessId,
    },
    engine::{Decision, decision::DecisionCode},
    pipeline::intake::PersonPresence,
    store::DecidedFact,
};

/// A person's device at a business on a day of the log.
type DeviceDay = (Subject, BusinessId, MacAddr, LogDay);

/// The entries so far.
#[derive(Default)]
pub(super) struct PresenceLines {
    /// By device and day, and the last frame of the entry's first point.
    lines: BTreeMap<(DeviceDay, WallTime), (PresenceFact, DecisionCode)>,
    /// The entry to which a device's next point is added.
    open: BTreeMap<DeviceDay, WallTime>,
}

impl PresenceLines {
    /// Adds a point. Points must be added in chronological order: an entry gets the decision on its last point.
    pub(super) fn add(&mut self, presence: &PersonPresence, decision: &Decision) {
        let at = presence.point.last_at;
        let key = (presence.subject, presence.business, presence.mac, LogDay::of(at));
        let first = *self.open.entry(key).or_insert(at);
        let first = if at.millis() - first.millis() < LOG_SPAN { first } else { at };
        self.open.insert(key, first);
        let line = self.lines.entry((key, first)).or_insert_with(|| {
            let fact = PresenceFact {
                business: presence.business,
                subject: presence.subject,
                mac: presence.mac,
                interface: Arc::clone(&presence.interface),
                points: Vec::new(),
            };
            (fact, decision.code())
        });
        line.0.points.push(presence.point);
        line.1 = decision.code();
    }

    /// The entries, to be written.
    pub(super) fn into_facts(self) -> impl Iterator<Item = DecidedFact> {
        self.lines.into_values().map(|(fact, decision)| DecidedFact { fact: Fact::Presence(fact).stored(), decision })
    }
}
