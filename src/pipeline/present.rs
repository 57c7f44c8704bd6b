//! PURE. What the pipeline remembers between batches of people who are in, so that a presence that only goes on costs nothing
//! but its place in the next minute's rows.
//!
//! All of it can be lost: a restart folds again from the database, and forgets at most a minute of presences, together with
//! the coverage of that minute.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use uuid::Uuid;

use super::intake::HeardDevice;
use crate::{
    base::{
        clock::{BootTime, Now, WallTime},
        fact::{FactOrder, LOG_SPAN, Point, Subject},
        mac::MacAddr,
        record::BusinessId,
    },
    engine::{decision::Reason, person::PersonState},
    policy::{Rules, calendar::PassDay},
    store::UnloggedPresence,
};

/// Unrecognised devices for which a failed check-in is written, per business and pass day. A busy open network shows a
/// few hundred strangers' phones a day; what comes beyond is counted and named as a condition, not written.
pub const UNRECOGNISED_A_DAY: usize = 1000;

/// Somebody who is in here.
#[derive(Clone, Debug)]
struct Present {
    visit: Uuid,
    from: WallTime,
    macs: BTreeSet<MacAddr>,
    tracked: bool,
    last_activity: WallTime,
    strong_at: Option<WallTime>,
    folded: FactOrder,
    silent_at: Option<WallTime>,
    /// When the visit ends by its day or its pass.
    ends: WallTime,
    /// When it was first seen here; none for one that was found at start.
    seen: Option<BootTime>,
    /// What no fact holds yet.
    pending: BTreeMap<MacAddr, (Arc<str>, Vec<Point>)>,
    /// Some of it is not in the database either.
    unwritten: bool,
}

/// Everybody who is in here, and the strange devices of the day.
#[derive(Debug, Default)]
pub(super) struct Presents {
    people: BTreeMap<Subject, Present>,
    strange: BTreeSet<(Reason, MacAddr)>,
    strange_day: Option<PassDay>,
}

impl Presents {
    /// How many are in.
    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    /// Takes over how somebody stands after a commit; `found` at start, when it is not known since when they are seen.
    pub(super) fn settle(
        &mut self,
        subject: Subject,
        person: &PersonState,
        business: BusinessId,
        seen: Option<BootTime>,
    ) {
        let Some(open) = person.open().filter(|open| open.business == business) else {
            self.people.remove(&subject);
            return;
        };
        let known = self.people.get(&subject).filter(|known| known.visit == open.unique_id);
        let seen = known.map_or(seen, |known| known.seen);
        let present = Present {
            visit: open.unique_id,
            from: open.from,
            macs: open.macs.clone(),
            tracked: open.is_tracked(),
            last_activity: open.last_activity,
            strong_at: open.strong_at,
            folded: person.folded,
            silent_at: person.silent_at.filter(|(silent, _)| *silent == business).map(|(_, at)| at),
            ends: open.ends_at_last().0,
            seen,
            pending: BTreeMap::new(),
            unwritten: false,
        };
        self.people.insert(subject, present);
    }

    /// Does this presence only go on with what is known: the same visit, a device that is in it, no silence before it and
    /// nothing decided after it? Then a fold would refresh the visit, now or later; it is kept for the next one.
    pub(super) fn goes_on(&mut self, heard: &HeardDevice, rules: &Rules) -> bool {
        let Some(present) = self.people.get_mut(&heard.subject) else { return false };
        let point = &heard.point;
        let fresh = match (point.strong_at, present.strong_at) {
            (Some(_), _) => true,
            (None, Some(strong)) => point.last_at <= strong.plus(rules.idle_limit.saturating_mul(2)),
            (None, None) => false,
        };
        let oldest = present.pending.values().filter_map(|(_, points)| points.first()).map(|first| first.last_at).min();
        let goes_on = present.tracked
            && fresh
            && present.macs.contains(&heard.mac)
            && point.place(heard.business, heard.mac) > present.folded
            && present.silent_at.is_none_or(|silent| point.first_at > silent)
            && point.first_at >= present.from
            && point.first_at <= present.last_activity.plus(rules.idle_limit)
            && point.last_at < present.ends
            && oldest.is_none_or(|oldest| point.last_at.millis() - oldest.millis() < LOG_SPAN);
        if goes_on {
            present.last_activity = present.last_activity.max(point.last_at);
            present.strong_at = present.strong_at.max(point.strong_at);
            let (_, points) =
                present.pending.entry(heard.mac).or_insert_with(|| (Arc::clone(&heard.interface), Vec::new()));
            points.push(*point);
            present.unwritten = true;
        }
        goes_on
    }

    /// Those whose visit should be over: another gateway has ended it, and we were not told.
    pub(super) fn over(&self, now: WallTime) -> BTreeSet<Subject> {
        self.people.iter().filter(|(_, present)| present.ends < now).map(|(subject, _)| *subject).collect()
    }

    /// What is kept of somebody's presences, if it is known here.
    pub(super) fn pending(&self, subject: Subject, business: BusinessId) -> Option<Vec<UnloggedPresence>> {
        self.people.get(&subject).map(|present| present.rows(subject, business).collect())
    }

    /// What is not in the database yet.
    pub(super) fn unwritten(&self, business: BusinessId) -> Vec<UnloggedPresence> {
        let unwritten = self.people.iter().filter(|(_, present)| present.unwritten);
        unwritten.flat_map(|(subject, present)| present.rows(*subject, business)).collect()
    }

    /// It is in the database now.
    pub(super) fn written(&mut self) {
        for present in self.people.values_mut() {
            present.unwritten = false;
        }
    }

    /// Whose check-in was written by our clock before it was stepped by so many milliseconds: those whose moved beginning
    /// fits better to how long we have known them (a controller's own clock may have been right all the time). Of those
    /// found at start, all, or none when this is the `first` synchronisation.
    pub(super) fn stamped_before_step(&self, by: i64, first: bool, now: Now) -> BTreeSet<Subject> {
        let ours = |present: &Present| match present.seen {
            None => !first,
            Some(seen) => {
                let began = now.wall.minus(now.boot.since(seen));
                present.from.moved(by).distance(began) < present.from.distance(began)
            }
        };
        self.people.iter().filter(|(_, present)| ours(present)).map(|(subject, _)| *subject).collect()
    }

    /// The devices already reported on this day.
    pub(super) fn begin_day(&mut self, day: PassDay, reported: BTreeSet<(Reason, MacAddr)>) {
        self.strange = reported;
        self.strange_day = Some(day);
    }

    /// Is a record of this strange device wanted, or was there one, or are there too many, with so many that are under way?
    pub(super) fn strange(
        &mut self,
        reason: Reason,
        mac: MacAddr,
        day: PassDay,
        under_way: usize,
    ) -> UnknownDeviceRecord {
        if self.strange_day.is_none_or(|known| known.start < day.start) {
            self.begin_day(day, BTreeSet::new());
        }
        if self.strange.contains(&(reason, mac)) {
            UnknownDeviceRecord::Reported
        } else if self.strange.len() + under_way >= UNRECOGNISED_A_DAY {
            UnknownDeviceRecord::LeftOut
        } else {
            UnknownDeviceRecord::New
        }
    }

    /// It has its record.
    pub(super) fn reported(&mut self, reason: Reason, mac: MacAddr) {
        self.strange.insert((reason, mac));
    }
}

/// What is known of a strange device in its pass day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnknownDeviceRecord {
    /// It has no record yet.
    New,
    /// It has one.
    Reported,
    /// It gets none: there are too many.
    LeftOut,
}

impl Present {
    fn rows(&self, subject: Subject, business: BusinessId) -> impl Iterator<Item = UnloggedPresence> {
        self.pending.iter().map(move |(mac, (interface, points))| UnloggedPresence {
            business,
            subject,
            mac: *mac,
            interface: interface.to_string(),
            points: points.clone(),
        })
    }
}
