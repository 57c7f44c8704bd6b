//! PURE. What a batch asks the database before it is decided: of whom it speaks, how far back each of them must be known,
//! and who is decided again because something of theirs came late.

use std::{collections::BTreeMap, time::Duration};

use super::{logged, memory::Memory, plan::Rulebook, walk};
use crate::{
    clock::WallTime,
    directory::{Directory, Match},
    engine::Standing,
    record::CoworkerId,
    settings::NetworkOpens,
    sighting::{Presence, Sighting},
};

/// How far ahead of ours a controller's clock may be: what the log holds from later than that was written by a clock that
/// was wrong, and decides nothing before its time has come.
const AHEAD: Duration = Duration::from_mins(5);

/// What came later than this is only recorded. Controllers are believed for two days unless a source says otherwise.
const DECIDED_AGAIN: Duration = Duration::from_hours(8 * 24);

/// What a batch says of a coworker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    /// The first evidence.
    earliest: WallTime,
    /// What is to be decided, and when it happened: taps as [`walk::tap`] tells them apart, none for presences.
    items: Vec<(WallTime, Option<String>)>,
}

/// Whom a batch speaks of.
pub(super) fn who(
    sightings: &[&Sighting],
    presences: &[&Presence],
    directory: &Directory,
) -> BTreeMap<CoworkerId, Spoken> {
    let one = |found: Match<'_>| match found {
        Match::One(coworker) => Some(coworker.id),
        Match::Nobody | Match::Several => None,
    };
    let by_door = sightings.iter().filter_map(|sighting| {
        let credential = sighting.event.credential.as_ref()?;
        let event = &sighting.event;
        let shown = logged::credential(event).unwrap_or_default();
        let tap = walk::tap(&event.door.0, logged::direction(event.direction), &shown, event.kind.lets_in());
        Some((one(directory.by_credential(credential))?, sighting.event_at, (sighting.event_at, Some(tap))))
    });
    let by_network = presences.iter().filter_map(|presence| {
        let earliest = presence.first_at.min(presence.last_at);
        Some((one(directory.by_mac(presence.mac))?, earliest, (presence.last_at, None)))
    });
    let mut all: BTreeMap<CoworkerId, Spoken> = BTreeMap::new();
    for (coworker, earliest, item) in by_door.chain(by_network) {
        let spoken = all.entry(coworker).or_insert_with(|| Spoken { earliest, items: Vec::new() });
        spoken.earliest = spoken.earliest.min(earliest);
        spoken.items.push(item);
    }
    all
}

/// The latest instant of which the log is believed.
pub(super) fn horizon(now: WallTime) -> WallTime {
    now.plus(AHEAD)
}

/// What a batch asks the database of its people.
#[derive(Debug)]
pub(super) struct Questions {
    /// The earliest instant that visits of each are needed of.
    pub(super) standings: BTreeMap<CoworkerId, WallTime>,
    /// From when on those are decided again of whom something came late: the beginning of that pass day.
    pub(super) again: BTreeMap<CoworkerId, WallTime>,
}

impl Questions {
    /// `frontiers` are the last things that the log knows of each.
    /// `everybody` includes those of whom only sightings came that were decided before.
    pub(super) fn new(
        everybody: &BTreeMap<CoworkerId, Spoken>,
        spoken: &BTreeMap<CoworkerId, Spoken>,
        frontiers: &BTreeMap<CoworkerId, WallTime>,
        book: &Rulebook,
        memory: &Memory,
        now: WallTime,
    ) -> Self {
        let calendar = book.rules().calendar;
        // Retention may have taken a part of its last day.
        let kept = book.log_kept.map_or(DECIDED_AGAIN, |kept| kept.saturating_sub(Duration::from_hours(26)));
        let oldest = now.minus(DECIDED_AGAIN.min(kept));
        let debounce = book.site.debounce;
        let late = |(coworker, spoken): (&CoworkerId, &Spoken)| {
            let frontier = *frontiers.get(coworker)?;
            let taps = memory.recent(*coworker, Some(frontier));
            let is_late = |(at, tap): &&(WallTime, Option<String>)| match (taps, tap) {
                // A repetition of what is known to have been a tap changes nothing, whenever it comes.
                (Some(taps), Some(tap)) if walk::is_known_repetition(taps, tap, *at, debounce) => false,
                // A tap is compared with those just before it.
                (None, Some(_)) => at.minus(debounce) <= frontier,
                (Some(_) | None, _) => *at <= frontier,
            };
            let first = spoken.items.iter().filter(is_late).map(
                |(at, tap)| {
                    if tap.is_some() { at.minus(debounce) } else { *at }
                },
            );
            let first = first.filter(|first| *first >= oldest).min()?;
            Some((*coworker, calendar.pass_day(first).start))
        };
        let again: BTreeMap<CoworkerId, WallTime> = spoken.iter().filter_map(late).collect();
        let standings = everybody.iter().map(|(coworker, spoken)| {
            let day = || calendar.pass_day(spoken.earliest).start;
            let earliest = match (again.get(coworker), book.site.network_opens) {
                (Some(from), _) => *from,
                // A door that let somebody in counts for the whole day.
                (None, NetworkOpens::AfterDoor) => day(),
                (None, NetworkOpens::Always | NetworkOpens::Never) => spoken.earliest,
            };
            (*coworker, earliest)
        });
        Self { standings: standings.collect(), again }
    }
}

/// From when on all visits of each are in `standings`, so that they say themselves what they use of passes; `since` is
/// where the database began to look.
pub(super) fn decided_from(
    standings: &BTreeMap<CoworkerId, Standing>,
    again: &BTreeMap<CoworkerId, WallTime>,
    since: WallTime,
) -> BTreeMap<CoworkerId, WallTime> {
    let earliest = |standing: &Standing| standing.visits().iter().map(|visit| visit.from).find(|from| *from >= since);
    standings
        .iter()
        .map(|(coworker, standing)| {
            let from = again.get(coworker).copied().or_else(|| earliest(standing)).unwrap_or(since);
            (*coworker, from)
        })
        .collect()
}
