//! PURE. What a batch asks the database before it is decided: of whom it speaks, how far back each of them must be known,
//! and who is decided again because something of theirs came late.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{logged, memory::Memory, plan::Rulebook, portion::Whose, walk};
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

/// Lines of the log that are read to decide one transaction again, at most, some 20 MB: a day of two hundred people. What
/// came late of more people waits for the next transaction; of somebody who has more alone, it is only recorded.
pub(super) const LINES: u64 = 20_000;

/// What a batch says of a coworker.
#[derive(Clone, Debug)]
pub(super) struct Spoken<'a> {
    /// The first evidence.
    earliest: WallTime,
    /// What is to be decided, and when it happened: taps, or none for presences.
    items: Vec<(WallTime, Option<&'a Sighting>)>,
}

impl Spoken<'_> {
    fn by_network(&self) -> bool {
        self.items.iter().any(|(_, tapped)| tapped.is_none())
    }
}

/// Whom these speak of.
pub(super) fn who<'a>(
    sightings: impl Iterator<Item = Whose<'a, Sighting>>,
    presences: &[Whose<'a, Presence>],
) -> BTreeMap<CoworkerId, Spoken<'a>> {
    let doors = sightings
        .filter_map(|(sighting, coworker)| Some((coworker?, sighting.event_at, (sighting.event_at, Some(sighting)))));
    let networks = presences.iter().filter_map(|(presence, coworker)| {
        let earliest = presence.first_at.min(presence.last_at);
        Some(((*coworker)?, earliest, (presence.last_at, None)))
    });
    let mut all: BTreeMap<CoworkerId, Spoken<'_>> = BTreeMap::new();
    for (coworker, earliest, item) in doors.chain(networks) {
        let spoken = all.entry(coworker).or_insert_with(|| Spoken { earliest, items: Vec::new() });
        spoken.earliest = spoken.earliest.min(earliest);
        spoken.items.push(item);
    }
    all
}

/// Whose card it was, if it is one person's.
pub(super) fn by_door(sighting: &Sighting, directory: &Directory) -> Option<CoworkerId> {
    only(directory.by_credential(sighting.event.credential.as_ref()?))
}

/// Whose device it is, if it is one person's.
pub(super) fn by_network(presence: &Presence, directory: &Directory) -> Option<CoworkerId> {
    only(directory.by_mac(presence.mac))
}

fn only(found: Match<'_>) -> Option<CoworkerId> {
    match found {
        Match::One(coworker) => Some(coworker.id),
        Match::Nobody | Match::Several => None,
    }
}

/// The tap, as [`walk::tap`] tells them apart.
fn tap(sighting: &Sighting) -> String {
    let event = &sighting.event;
    let shown = logged::credential(event).unwrap_or_default();
    walk::tap(&event.door.0, logged::direction(event.direction), &shown, event.kind.lets_in())
}

/// The latest instant of which the log is believed.
pub(super) fn horizon(now: WallTime) -> WallTime {
    now.plus(AHEAD)
}

/// What is older is only recorded, whoever it is about.
pub(super) fn too_old(now: WallTime) -> WallTime {
    now.minus(DECIDED_AGAIN)
}

/// What a batch asks the database of its people.
#[derive(Debug)]
pub(super) struct Questions {
    /// The earliest instant that visits of each are needed of.
    pub(super) standings: BTreeMap<CoworkerId, WallTime>,
    /// From when on those are decided again of whom something came late: the beginning of that pass day.
    pub(super) again: BTreeMap<CoworkerId, WallTime>,
    /// From when on the taps of others are read of whom it is not remembered what a new one may repeat: from the beginning
    /// of a minute, so that few questions ask for many people, and for few lines of each.
    near: BTreeMap<CoworkerId, WallTime>,
}

impl Questions {
    /// `frontiers` are the last things that the log knows of each, or later.
    /// `everybody` includes those of whom only sightings came that were decided before.
    pub(super) fn new(
        everybody: &BTreeMap<CoworkerId, Spoken<'_>>,
        spoken: &BTreeMap<CoworkerId, Spoken<'_>>,
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
        let late = |(coworker, spoken): (&CoworkerId, &Spoken<'_>)| {
            let frontier = *frontiers.get(coworker)?;
            let taps = memory.recent(*coworker, Some(frontier));
            let is_late = |(at, tapped): &&(WallTime, Option<&Sighting>)| {
                // A repetition of what is known to have been a tap changes nothing, whenever it comes.
                let known =
                    |(taps, sighting): (_, &Sighting)| walk::is_known_repetition(taps, &tap(sighting), *at, debounce);
                *at <= frontier && !taps.zip(*tapped).is_some_and(known)
            };
            let first = spoken
                .items
                .iter()
                .filter(is_late)
                .map(|(at, tapped)| if tapped.is_some() { at.minus(debounce) } else { *at });
            let first = first.filter(|first| *first >= oldest).min()?;
            Some((*coworker, calendar.pass_day(first).start))
        };
        let again: BTreeMap<CoworkerId, WallTime> = spoken.iter().filter_map(late).collect();
        let near = |(coworker, spoken): (&CoworkerId, &Spoken<'_>)| {
            let frontier = *frontiers.get(coworker)?;
            if again.contains_key(coworker) || memory.recent(*coworker, Some(frontier)).is_some() {
                return None;
            }
            let is_near = |(at, tapped): &&(WallTime, Option<&Sighting>)| {
                tapped.is_some() && *at > frontier && at.minus(debounce) <= frontier && *at >= too_old(now)
            };
            let taps = spoken.items.iter().filter(is_near);
            Some((*coworker, taps.map(|(at, _)| at.minus(debounce)).min()?.minute()))
        };
        let near = spoken.iter().filter_map(near).collect();
        let standings = everybody.iter().map(|(coworker, spoken)| {
            let day = || calendar.pass_day(spoken.earliest).start;
            let earliest = match (again.get(coworker), book.site.network_opens) {
                (Some(from), _) => *from,
                // A door that let somebody in lets the network open for the whole day.
                (None, NetworkOpens::AfterDoor) if spoken.by_network() => day(),
                (None, NetworkOpens::AfterDoor | NetworkOpens::Always | NetworkOpens::Never) => spoken.earliest,
            };
            (*coworker, earliest)
        });
        Self { standings: standings.collect(), again, near }
    }

    /// Leaves for the next transaction whose logs, of these `lengths`, do not fit into the `room` of this one, in lines;
    /// gives them. The first always fits.
    pub(super) fn postpone(&mut self, lengths: &BTreeMap<CoworkerId, u64>, room: u64) -> BTreeSet<CoworkerId> {
        let length = |coworker: &CoworkerId| lengths.get(coworker).copied().unwrap_or(0);
        self.again.retain(|coworker, _| length(coworker) <= LINES);
        let mut taken = 0;
        let mut postponed = BTreeSet::new();
        for coworker in self.again.keys() {
            if taken > 0 && taken + length(coworker) > room {
                postponed.insert(*coworker);
            } else {
                taken += length(coworker).max(1);
            }
        }
        self.again.retain(|coworker, _| !postponed.contains(coworker));
        self.standings.retain(|coworker, _| !postponed.contains(coworker));
        postponed
    }

    /// From when on the lines of each are read: of those who are decided again, all; of others, for the last taps.
    pub(super) fn pasts(&self) -> BTreeMap<CoworkerId, WallTime> {
        self.again.iter().chain(&self.near).map(|(coworker, since)| (*coworker, *since)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths, room, whose turn it is, who waits.
    type Case = (&'static [u64], u64, &'static [i64], &'static [i64]);

    #[test]
    fn as_many_people_as_fit_are_decided_again_and_whoever_has_too_much_alone_is_not() {
        let cases: [Case; 7] = [
            (&[], 10, &[], &[]),
            (&[4, 6], 10, &[0, 1], &[]),
            (&[4, 7, 6], 10, &[0, 2], &[1]),
            (&[11, 1], 10, &[0], &[1]),
            (&[0, 0, 11], 10, &[0, 1], &[2]),
            (&[LINES + 1, 3], 10, &[1], &[]),
            (&[LINES, LINES, 1], LINES, &[0], &[1, 2]),
        ];
        for (lengths, room, now, later) in cases {
            let people = (0..).map(CoworkerId).zip(lengths.iter().copied());
            let lengths: BTreeMap<CoworkerId, u64> = people.collect();
            let at = WallTime::from_millis(0);
            let again: BTreeMap<CoworkerId, WallTime> = lengths.keys().map(|&coworker| (coworker, at)).collect();
            let mut questions = Questions { standings: again.clone(), again, near: BTreeMap::new() };
            let postponed = questions.postpone(&lengths, room);
            let ids = |people: Vec<CoworkerId>| people.iter().map(|coworker| coworker.0).collect::<Vec<_>>();
            assert_eq!(ids(questions.again.into_keys().collect()), now, "{lengths:?}");
            assert_eq!(ids(postponed.into_iter().collect()), later, "{lengths:?}");
        }
    }
}
