//! PURE. What the pipeline remembers between batches about people who are in. A presence that only continues a visit
//! thus needs no transaction of its own: it is written with the others every two minutes.
//!
//! All of it may be lost: after a restart the pipeline folds from the database again, and loses at most two minutes of
//! presences along with the coverage of that time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::intake::PersonPresence;
use crate::{
    base::{
        clock::{BootTime, Now, WallTime},
        fact::{FactOrder, LOG_SPAN, Point, Subject},
        mac::MacAddr,
        record::BusinessId,
    },
    engine::person::PersonState,
    policy::Rules,
    store::UnloggedPresence,
};

/// How often presences that only continue a visit are written, along with the coverage: a crash loses at most this much
/// of both. Each write rewrites the pages of everyone present, so this is what a full building costs the disk.
pub(super) const WRITE_EVERY: Duration = Duration::from_mins(2);

/// A person who is in here.
#[derive(Clone, Debug)]
struct PresentPerson {
    visit: Uuid,
    from: WallTime,
    macs: BTreeSet<MacAddr>,
    tracked: bool,
    last_activity: WallTime,
    strong_at: Option<WallTime>,
    folded: FactOrder,
    silent_at: Option<WallTime>,
    /// When the pass day or the pass ends the visit.
    ends: WallTime,
    /// When this process saw the visit begin; `None` for a visit found at startup.
    seen: Option<BootTime>,
    /// Points that are not in the log of facts yet, by device.
    pending: BTreeMap<MacAddr, (Arc<str>, Vec<Point>)>,
    /// Whether some of these points are not in the database either.
    unwritten: bool,
}

/// Everyone who is in here.
#[derive(Debug, Default)]
pub(super) struct PresentPeople {
    people: BTreeMap<Subject, PresentPerson>,
}

impl PresentPeople {
    /// The number of people who are in.
    pub(super) fn len(&self) -> usize {
        self.people.len()
    }

    /// Updates a person from their state after a commit. `seen` is now, or `None` at startup, when it is not known how
    /// long ago the visit was first seen.
    pub(super) fn update(
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
        let present = PresentPerson {
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

    /// Keeps a presence for the person's next fold and returns true, if it could only refresh the visit there: the
    /// visit is the same, it includes the device, no silence precedes the presence, and nothing later was decided.
    pub(super) fn keep_if_continuing(&mut self, presence: &PersonPresence, rules: &Rules) -> bool {
        let Some(present) = self.people.get_mut(&presence.subject) else { return false };
        let point = &presence.point;
        // Weak evidence refreshes a visit only within two idle limits of the last strong evidence.
        let fresh = match (point.strong_at, present.strong_at) {
            (Some(_), _) => true,
            (None, Some(strong)) => point.last_at <= strong.plus(rules.idle_limit.saturating_mul(2)),
            (None, None) => false,
        };
        let oldest = present.pending.values().filter_map(|(_, points)| points.first()).map(|first| first.last_at).min();
        let continues = present.tracked
            && fresh
            && present.macs.contains(&presence.mac)
            && point.place(presence.business, presence.mac) > present.folded
            && present.silent_at.is_none_or(|silent| point.first_at > silent)
            && point.first_at >= present.from
            && point.first_at <= present.last_activity.plus(rules.idle_limit)
            && point.last_at < present.ends
            && oldest.is_none_or(|oldest| point.last_at.millis() - oldest.millis() < LOG_SPAN);
        if continues {
            present.last_activity = present.last_activity.max(point.last_at);
            present.strong_at = present.strong_at.max(point.strong_at);
            let (_, points) =
                present.pending.entry(presence.mac).or_insert_with(|| (Arc::clone(&presence.interface), Vec::new()));
            points.push(*point);
            present.unwritten = true;
        }
        continues
    }

    /// People whose visit should have ended. Another gateway may have ended it without this one noticing.
    pub(super) fn overdue(&self, now: WallTime) -> BTreeSet<Subject> {
        self.people.iter().filter(|(_, present)| present.ends < now).map(|(subject, _)| *subject).collect()
    }

    /// Since when a person is in here; `None` if they are not known to be.
    pub(super) fn since(&self, subject: Subject) -> Option<WallTime> {
        self.people.get(&subject).map(|present| present.from)
    }

    /// The pending presences of a person; `None` if the person is not known to be in here.
    pub(super) fn pending(&self, subject: Subject, business: BusinessId) -> Option<Vec<UnloggedPresence>> {
        self.people.get(&subject).map(|present| present.rows(subject, business).collect())
    }

    /// The pending presences that are not in the database yet.
    pub(super) fn unwritten(&self, business: BusinessId) -> Vec<UnloggedPresence> {
        let unwritten = self.people.iter().filter(|(_, present)| present.unwritten);
        unwritten.flat_map(|(subject, present)| present.rows(*subject, business)).collect()
    }

    /// Notes that all of them are in the database now.
    pub(super) fn mark_written(&mut self) {
        for present in self.people.values_mut() {
            present.unwritten = false;
        }
    }

    /// People whose check-in our clock stamped before it was stepped by `by` milliseconds: those whose beginning, once
    /// moved, is closer to when we first saw them. (A controller's own clock may have been right throughout.) Of those
    /// found at startup: everyone, or no one if this is the `first` synchronisation.
    pub(super) fn stamped_before_step(&self, by: i64, first: bool, now: Now) -> BTreeSet<Subject> {
        let ours = |present: &PresentPerson| match present.seen {
            None => !first,
            Some(seen) => {
                let began = now.wall.minus(now.boot.since(seen));
                present.from.moved(by).distance(began) < present.from.distance(began)
            }
        };
        self.people.iter().filter(|(_, present)| ours(present)).map(|(subject, _)| *subject).collect()
    }
}

impl PresentPerson {
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
