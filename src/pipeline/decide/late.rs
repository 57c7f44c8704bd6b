//! PURE. Finds what is late, and the day from which a group must be refolded.

use std::collections::BTreeMap;

use super::input::{FoldInput, PendingPoint};
use crate::{
    base::{
        clock::WallTime,
        fact::{LogDay, Subject},
        record::BusinessId,
    },
    engine::{
        fold::{self, FoldItem, World},
        person::PersonState,
    },
    pipeline::intake::NewEdit,
};

/// The day from which a group must be refolded; `None` if it need not be.
///
/// A group is refolded when (1) a new fact precedes one already decided, (2) a directory version took effect before a
/// fact decided without it, (3) a silence before a decided fact has only now been confirmed.
pub(in crate::pipeline) fn late_from(input: &FoldInput, world: &World<'_>) -> Option<LogDay> {
    let unknown = PersonState::default();
    let doors = input.doors.iter().map(FoldItem::door);
    let points = input.points.iter().map(PendingPoint::item);
    let edits = input.edits.iter().map(NewEdit::item);
    // If passes are shared, a fact is also late if another person's later fact was already decided: that one may have
    // used the pass.
    let shared = input.current.len() > 1 || input.shares_passes && !input.passes.is_empty();
    let late = doors.chain(points).chain(edits).filter(|item| {
        let person = input.current.get(&item.subject).map_or(&unknown, |standing| &standing.person);
        let behind_others = || {
            let mut others = input.current.iter().filter(|(subject, _)| **subject != item.subject);
            shared && others.any(|(_, other)| item.is_behind(other.person.folded))
        };
        item.is_late(person) || behind_others()
    });
    let late = late.map(|item| LogDay::of(item.place.at.min(item.seen_at())));
    // A version that took effect before a fact decided without it.
    let versions = input.current.values().filter(|known| known.revision > 0).filter_map(|known| {
        let from = world.directories.newer_than(known.person.directory)?;
        (from <= known.person.folded.at).then(|| LogDay::of(from))
    });
    let silence = fold::silence_behind(input.current.values().map(|known| &known.person), world).map(LogDay::of);
    late.chain(versions).chain(silence).min()
}

/// People whose latest facts may come after a silence that only the next frame can confirm, and when it would have
/// reached the idle limit: the next frame shows whether the time since the last one was covered. They are refolded
/// then; false positives only cost time.
pub(in crate::pipeline) fn unproven(
    input: &FoldInput,
    world: &World<'_>,
    business: BusinessId,
) -> BTreeMap<Subject, WallTime> {
    let Some((coverage, (last_frame, _))) =
        world.coverage.get(&business).and_then(|coverage| Some((coverage, coverage.unproven()?)))
    else {
        return BTreeMap::new();
    };
    // Only people with a new fact after the last frame can be affected.
    let doors = input.doors.iter().map(FoldItem::door);
    let points = input.points.iter().filter(|point| point.is_new).map(PendingPoint::item);
    let new = doors.chain(points).filter(|item| item.business == business);
    let mut newest: BTreeMap<Subject, WallTime> = BTreeMap::new();
    let mut activity: BTreeMap<Subject, Vec<WallTime>> = BTreeMap::new();
    for item in new {
        let last = newest.entry(item.subject).or_insert(item.seen_at());
        *last = item.seen_at().max(*last);
        activity.entry(item.subject).or_default().push(item.place.at);
    }
    newest.retain(|_, last| *last > last_frame);
    if newest.is_empty() {
        return BTreeMap::new();
    }
    if input.refold.is_some() {
        // The earliest possible instant: searching the refolded facts for the exact one is not worth the time.
        return newest.into_keys().map(|subject| (subject, last_frame.moved(1))).collect();
    }
    // A silence counts if it does not reach the idle limit within proven coverage, but would if the time since the last
    // frame were covered.
    let at_most = coverage.at_most();
    let silence = |since: WallTime| {
        let limit = world.policies.at(business, since)?.site.idle_limit;
        coverage.run_out(since, limit).is_none().then(|| at_most.run_out(since, limit)).flatten()
    };
    let pending = input.points.iter().filter(|point| point.was_pending).map(|point| &point.presence);
    for presence in pending.filter(|presence| newest.contains_key(&presence.subject)) {
        activity.entry(presence.subject).or_default().push(presence.point.last_at);
    }
    let first = |(subject, newest): (Subject, WallTime)| {
        let visits = input.group.people.get(&subject).into_iter().flat_map(|person| &person.visits);
        let visited = visits.filter(|visit| visit.business == business).map(|visit| visit.last_activity);
        let active = activity.get(&subject).into_iter().flatten().copied();
        let first = visited.chain(active).filter_map(silence).min()?;
        (first < newest).then_some((subject, first))
    };
    newest.into_iter().filter_map(first).collect()
}

/// The log days from `from` to `to`. After a large step of the clock the two may be years apart: then only the days
/// near each of them are returned.
pub(crate) fn days_between(from: LogDay, to: LogDay) -> impl Iterator<Item = LogDay> {
    const NEAR: i64 = 12;
    let (near, far) = ((from.0 + NEAR).min(to.0), (to.0 - NEAR).max(from.0));
    (from.0..=near).chain(far.max(near + 1)..=to.0).map(LogDay)
}
