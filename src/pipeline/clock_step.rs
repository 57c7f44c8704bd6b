//! PURE. Applies a step of the wall clock: everything that this clock stamped before the step gets the time that it
//! would get now.

use std::collections::BTreeSet;

use super::{
    decide::{FoldInput, PendingPoint},
    intake::PersonPresence,
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

/// By how many milliseconds the wall clock was stepped between two readings; `None` if it was not. A message from
/// before the machine's start keeps its time.
pub(super) fn stepped(was: Now, now: Now) -> Option<i64> {
    if was.boot.is_earlier() {
        return None;
    }
    let expected = was.wall.plus(now.boot.since(was.boot));
    (now.wall.distance(expected) > STEP).then(|| now.wall.millis().saturating_sub(expected.millis()))
}

/// Gives a message that arrived before a step, or before the clock was set, the time that it would get now.
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

/// The same for a presence. If a capture merged it across a step, its times are put in order.
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
    /// The size of the step, in milliseconds.
    pub(super) by: i64,
    /// The time right after the step. A later stamp by our clock was made before the step was believed, and is wrong.
    pub(super) wrong_from: WallTime,
}

/// The first day that a step affects for these people: the day of an open check-in that moves, or of facts stamped with
/// a future time.
pub(super) fn moved_from(input: &FoldInput, moving: &BTreeSet<Subject>, step: ClockStep) -> Option<LogDay> {
    let first = |(subject, known): (&Subject, &StoredPerson)| {
        let open = known.person.open().filter(|_| moving.contains(subject));
        let open = open.map(|visit| visit.from.min(visit.from.moved(step.by)));
        let ahead = (step.by < 0 && known.person.folded.at > step.wrong_from).then(|| step.wrong_from.moved(step.by));
        open.into_iter().chain(ahead).min()
    };
    input.current.iter().filter_map(first).map(LogDay::of).min()
}

/// Moves the facts that our clock stamped about these people: those since the beginning of their check-in, if it moves,
/// and all with a future time.
pub(super) fn move_facts(input: &mut FoldInput, moving: &BTreeSet<Subject>, step: ClockStep, writes: &mut Writes) {
    let Some(refold) = &mut input.refold else { return };
    // Which facts move: those of a moving check-in, and those that the clock stamped ahead of the time after the step.
    let since = |subject: Subject| {
        let open = input.current.get(&subject).filter(|_| moving.contains(&subject));
        open.and_then(|known| known.person.open()).map(|open| open.from)
    };
    let moves = |subject: Subject, at: WallTime| {
        since(subject).is_some_and(|from| at >= from) || (step.by < 0 && at > step.wrong_from)
    };
    // A moved fact gets another place, so it leaves the log and is decided again as a new one.
    let mut kept: Vec<DecidedFact> = Vec::with_capacity(refold.facts.len());
    for row in std::mem::take(&mut refold.facts) {
        match Fact::read(&row.fact) {
            Ok(Fact::Door(mut door)) if moves(door.subject, door.at) && is_ours(&door, step.by) => {
                (door.at, door.arrived) = (door.at.moved(step.by), door.arrived.moved(step.by));
                input.doors.push(door);
                writes.gone_facts.push(row.fact);
            }
            Ok(Fact::Presence(presence)) if moves(presence.subject, presence.at()) => {
                let points = presence.points.iter().map(|point| PendingPoint {
                    presence: PersonPresence {
                        subject: presence.subject,
                        business: presence.business,
                        mac: presence.mac,
                        interface: std::sync::Arc::clone(&presence.interface),
                        point: point.moved(step.by),
                    },
                    is_new: false,
                    was_pending: false,
                });
                input.points.extend(points);
                writes.gone_facts.push(row.fact);
            }
            // What a user said about a time holds whatever the clock shows.
            Ok(Fact::Door(_) | Fact::Presence(_) | Fact::UnknownDevice(_) | Fact::Rejected(_) | Fact::Edit(_))
            | Err(_) => {
                kept.push(row);
            }
        }
    }
    refold.facts = kept;
    // The points that are not in the log yet were stamped by the same clock.
    for pending in input.points.iter_mut().filter(|point| point.was_pending) {
        if moves(pending.presence.subject, pending.presence.point.last_at) {
            pending.presence.point = pending.presence.point.moved(step.by);
        }
    }
}

/// Whether the event was stamped by the clock that was stepped, or by one set from it. Another clock may have been
/// right throughout.
fn is_ours(door: &DoorFact, by: i64) -> bool {
    let apart = door.at.distance(door.arrived);
    door.quality == TimeQuality::Arrival
        || apart.saturating_mul(2) < std::time::Duration::from_millis(by.unsigned_abs())
}
