//! PURE. A step of the wall clock: what was stamped before it, by the same clock, gets the time that it would have now.

use std::collections::BTreeSet;

use super::{
    decide::{GroupCase, UnloggedPoint},
    intake::HeardDevice,
};
use crate::{
    base::{
        clock::{EARLIEST, Now, STEP, WallTime},
        fact::{DoorFact, Fact, LogDay, Subject},
        sighting::{Presence, TimeQuality},
    },
    mapping::content::Content,
    source::Delivery,
    store::{DecidedFact, StoredPerson, Writes},
};

/// By how many milliseconds the wall clock was stepped between two looks; what was kept from an earlier start of the
/// machine has the time that it had.
pub(super) fn stepped(was: Now, now: Now) -> Option<i64> {
    if was.boot.is_earlier() {
        return None;
    }
    let expected = was.wall.plus(now.boot.since(was.boot));
    (now.wall.distance(expected) > STEP).then(|| now.wall.millis().saturating_sub(expected.millis()))
}

/// A message that arrived before a step, or before the clock was set, gets the time that it would have now.
pub(super) fn retime(delivery: &mut Delivery, now: Now) {
    let Content::Sightings(sightings) = &mut delivery.content else { return };
    for sighting in sightings {
        let Some(by) = stepped(sighting.arrived, now) else { continue };
        sighting.arrived.wall = sighting.arrived.wall.moved(by);
        match sighting.time_quality {
            TimeQuality::Arrival => sighting.event_at = sighting.event_at.moved(by),
            TimeQuality::Device | TimeQuality::Corrected => {}
        }
    }
}

/// The same for what a capture heard; and what it merged across a step is put in order.
pub(super) fn retimed_presence(mut presence: Presence, now: Now) -> Presence {
    let by = stepped(presence.arrived, now).unwrap_or(0);
    let last = presence.last_at.min(presence.arrived.wall);
    presence.last_at = last.moved(by);
    presence.last_strong_at = presence.last_strong_at.map(|at| at.min(last).moved(by));
    let first = if presence.first_at < EARLIEST && last >= EARLIEST { last } else { presence.first_at.min(last) };
    presence.first_at = first.moved(by);
    let since = if presence.since < EARLIEST && first >= EARLIEST { first } else { presence.since.min(first) };
    presence.since = since.moved(by);
    presence.arrived.wall = presence.arrived.wall.moved(by);
    presence
}

/// A step of the wall clock that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockStep {
    /// By so many milliseconds.
    pub(super) by: i64,
    /// The time right after it: what our clock has stamped with a later one, it stamped before the step was believed, wrongly.
    pub(super) wrong_from: WallTime,
}

/// The first day that a step touches of these people: of their open check-in if that moves, and of what was stamped with a time
/// to come.
pub(super) fn moved_from(case: &GroupCase, moving: &BTreeSet<Subject>, step: ClockStep) -> Option<LogDay> {
    let first = |(subject, known): (&Subject, &StoredPerson)| {
        let open = known.person.open().filter(|_| moving.contains(subject));
        let open = open.map(|visit| visit.from.min(visit.from.moved(step.by)));
        let ahead = (step.by < 0 && known.person.folded.at > step.wrong_from).then(|| step.wrong_from.moved(step.by));
        open.into_iter().chain(ahead).min()
    };
    case.now.iter().filter_map(first).map(LogDay::of).min()
}

/// Moves what our clock wrote of these people: since their check-in began, if that moves, and everything with a time to come.
pub(super) fn move_facts(case: &mut GroupCase, moving: &BTreeSet<Subject>, step: ClockStep, writes: &mut Writes) {
    let Some(past) = &mut case.past else { return };
    let since = |subject: Subject| {
        let open = case.now.get(&subject).filter(|_| moving.contains(&subject));
        open.and_then(|known| known.person.open()).map(|open| open.from)
    };
    let moves = |subject: Subject, at: WallTime| {
        since(subject).is_some_and(|from| at >= from) || (step.by < 0 && at > step.wrong_from)
    };
    let mut kept: Vec<DecidedFact> = Vec::with_capacity(past.facts.len());
    for row in std::mem::take(&mut past.facts) {
        match Fact::read(&row.fact) {
            Ok(Fact::Door(mut door)) if moves(door.subject, door.at) && is_ours(&door, step.by) => {
                (door.at, door.arrived) = (door.at.moved(step.by), door.arrived.moved(step.by));
                case.doors.push(door);
                writes.gone_facts.push(row.fact);
            }
            Ok(Fact::Presence(presence)) if moves(presence.subject, presence.at()) => {
                let points = presence.points.iter().map(|point| UnloggedPoint {
                    heard: HeardDevice {
                        subject: presence.subject,
                        business: presence.business,
                        mac: presence.mac,
                        interface: std::sync::Arc::clone(&presence.interface),
                        point: point.moved(step.by),
                    },
                    new: false,
                    was_pending: false,
                });
                case.unwritten.extend(points);
                writes.gone_facts.push(row.fact);
            }
            Ok(Fact::Door(_) | Fact::Presence(_) | Fact::StrangeDevice(_) | Fact::Rejected(_)) | Err(_) => {
                kept.push(row);
            }
        }
    }
    past.facts = kept;
    // What no fact holds yet was stamped by the same clock.
    for unwritten in case.unwritten.iter_mut().filter(|unwritten| unwritten.was_pending) {
        if moves(unwritten.heard.subject, unwritten.heard.point.last_at) {
            unwritten.heard.point = unwritten.heard.point.moved(step.by);
        }
    }
}

/// Was its time read from the clock that was stepped, or from one that went with it? Another clock may have been right all the
/// time.
fn is_ours(door: &DoorFact, by: i64) -> bool {
    let apart = door.at.distance(door.arrived);
    door.quality == TimeQuality::Arrival
        || apart.saturating_mul(2) < std::time::Duration::from_millis(by.unsigned_abs())
}
