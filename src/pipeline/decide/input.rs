//! PURE. The input of one fold: the current states of a group of people, the new facts about them and, if something is
//! late, the earlier states and facts from which to refold.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, LogDay, Subject},
        record::{BusinessId, CoworkerId},
    },
    directory::Directory,
    engine::fold::{FoldGroup, FoldItem},
    pipeline::intake::{NewEdit, PersonPresence},
    store::{DecidedFact, StoredPerson, StoredRecords, UnloggedPresence},
};

/// One point of a presence that is not in the log of facts yet, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct PendingPoint {
    pub(crate) presence: PersonPresence,
    /// Whether a capture has just sent it.
    pub(crate) is_new: bool,
    /// Whether it was kept outside the log: in the database, in the pipeline's memory or in both.
    pub(crate) was_pending: bool,
}

impl PendingPoint {
    /// The points of a pending presence.
    pub(crate) fn pending(pending: &UnloggedPresence) -> impl Iterator<Item = Self> {
        let UnloggedPresence { business, subject, mac, interface, points } = pending;
        let interface: Arc<str> = interface.as_str().into();
        points.iter().map(move |point| Self {
            presence: PersonPresence {
                subject: *subject,
                business: *business,
                mac: *mac,
                interface: Arc::clone(&interface),
                point: *point,
            },
            is_new: false,
            was_pending: true,
        })
    }

    /// The point as an item of the fold.
    pub(super) fn item(&self) -> FoldItem<'_> {
        let PersonPresence { subject, business, mac, interface: _, point } = &self.presence;
        FoldItem::seen(*subject, *business, *mac, *point)
    }
}

/// What is known about a group before its fold, and what is new.
#[derive(Debug, Default)]
pub(crate) struct FoldInput {
    /// The current states, as stored.
    pub(crate) current: BTreeMap<Subject, StoredPerson>,
    /// What the fold needs to begin earlier; `None` if nothing is late.
    pub(crate) refold: Option<Refold>,
    pub(crate) doors: Vec<DoorFact>,
    pub(crate) points: Vec<PendingPoint>,
    pub(crate) edits: Vec<NewEdit>,
    /// The states that the fold begins with: the current ones or, in a refold, earlier ones.
    pub(crate) group: FoldGroup,
    /// Whether other people may use the passes of these people too.
    pub(crate) shares_passes: bool,
    /// The passes of these people. Others who have left the group may have used them.
    pub(crate) passes: BTreeSet<Uuid>,
    /// Everyone in the group who holds passes, folded or not: only their own states contain what they used before the
    /// passes were shared.
    pub(crate) holders: BTreeSet<Subject>,
}

/// What a refold needs in addition.
#[derive(Debug, Default)]
pub(crate) struct Refold {
    /// The first day to refold.
    pub(crate) from: LogDay,
    pub(crate) facts: Vec<DecidedFact>,
    /// The stored records of these people, starting one pass day before the refold.
    pub(crate) records: StoredRecords,
    /// The beginning of each person's earliest visit that the refold decides again.
    pub(crate) visits_since: BTreeMap<CoworkerId, WallTime>,
    /// The days that have a checkpoint.
    pub(crate) checkpoints: Vec<(Subject, LogDay)>,
}

impl FoldInput {
    /// An input without states and facts, for people who are folded together.
    pub(crate) fn of(group: &BTreeSet<Subject>, versions: &[&Directory]) -> Self {
        let mut input = Self { shares_passes: group.len() > 1, ..Self::default() };
        for (subject, coworker) in group.iter().filter_map(|subject| Some((subject, subject.as_coworker()?))) {
            for held in versions.iter().flat_map(|version| version.own_passes(coworker)) {
                input.passes.insert(held.guid);
                input.holders.insert(*subject);
            }
        }
        input
    }

    /// The earliest instant for which the fold may need a version of the directory.
    pub(crate) fn begins(&self) -> Option<WallTime> {
        let folded = self.group.people.values().flat_map(|person| {
            let visits = person.visits.iter().map(|visit| visit.from);
            visits.chain((person.folded.at.millis() > 0).then_some(person.folded.at))
        });
        folded
            .chain(self.doors.iter().map(|fact| fact.at))
            .chain(self.points.iter().map(|point| point.presence.point.last_at))
            .chain(self.edits.iter().map(|new| new.edit.at()))
            // A refold decides everything since the beginning of its first day.
            .chain(self.refold.iter().map(|refold| refold.from.start()))
            .min()
    }

    /// The times of each person's facts and of the beginning of their open visit, by business.
    pub(super) fn instants(&self) -> BTreeMap<(Subject, BusinessId), BTreeSet<WallTime>> {
        let doors = self.doors.iter().map(|fact| (fact.subject, fact.business, fact.at));
        let points = self.points.iter().map(|point| &point.presence);
        let points = points.map(|presence| (presence.subject, presence.business, presence.point.last_at));
        let edits = self.edits.iter().map(|new| (new.edit.subject, new.edit.business, new.edit.at()));
        let past = self.refold.iter().flat_map(|refold| &refold.facts);
        let past = past.map(|row| (row.fact.subject, row.fact.business, row.fact.at));
        let open = self.group.people.iter().filter_map(|(subject, person)| Some((*subject, person.open()?)));
        let open = open.map(|(subject, open)| (subject, open.business, open.from));
        let mut instants: BTreeMap<(Subject, BusinessId), BTreeSet<WallTime>> = BTreeMap::new();
        for (subject, business, at) in doors.chain(points).chain(edits).chain(past).chain(open) {
            instants.entry((subject, business)).or_default().insert(at);
        }
        instants
    }

    /// Whether the input has a visit or a fact at another business.
    pub(in crate::pipeline) fn involves_other_than(&self, business: BusinessId) -> bool {
        let mut visits = self.group.people.values().flat_map(|person| &person.visits);
        self.edits.iter().any(|new| new.edit.business != business)
            || visits.any(|visit| visit.business != business)
            || self.refold.as_ref().is_some_and(|refold| refold.facts.iter().any(|row| row.fact.business != business))
    }
}
