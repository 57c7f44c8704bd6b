//! PURE. What a person's state keeps of edits until a fold has passed the times that they are about.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::{
    clock::WallTime,
    fact::{Edit, EditFact, EditedEnd, FactDigest, TimeSpan},
    record::{BusinessId, CheckinSource},
};

/// When an edit was made, and which of two at the same time is the later one.
pub(super) type Made = (WallTime, FactDigest);

/// What the edits of one visit say about times that a fold has not passed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEdits {
    /// The visit.
    pub(super) visit: Uuid,
    /// Where it is.
    pub(super) business: BusinessId,
    /// The last of its edits that is known.
    pub(super) latest: Made,
    /// Whether that edit says that the person came in, without saying when they left, and from when on.
    pub(super) open_from: Option<WallTime>,
    /// The visit as that edit sets it, until it begins.
    pub(super) ahead: Option<VisitAhead>,
    /// What the visit was before each of its edits.
    pub(super) was: Vec<(TimeSpan, Made)>,
    /// What its edits took away.
    pub(super) absences: Vec<PinnedAbsence>,
    /// Nothing of it matters from here on.
    pub(super) until: WallTime,
}

/// A visit that an edit has set and that has not begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VisitAhead {
    /// What its record names as its source.
    pub(super) source: CheckinSource,
    /// Its beginning.
    pub(super) from: WallTime,
    /// Its end.
    pub(super) end: EditedEnd,
}

/// A time in which, an edit says, the person was not in at its business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PinnedAbsence {
    pub(super) span: TimeSpan,
    pub(super) made: Made,
    /// Whether a fold has passed its beginning.
    pub(super) begun: bool,
}

impl KnownEdits {
    /// What one edit says.
    pub(super) fn of(edit: &EditFact) -> Self {
        let made = (edit.made, edit.digest);
        let set = match edit.edit {
            Edit::Set { from, end, .. } => Some(VisitAhead { source: edit.source, from, end }),
            Edit::Removed | Edit::Refused { .. } => None,
        };
        let (open_from, ends) = match &set {
            None => (None, None),
            Some(VisitAhead { from, end, .. }) => match *end {
                EditedEnd::At(to) => (None, Some(to)),
                // It is compared with what earlier edits took away, none of which is later than this edit.
                EditedEnd::NotBefore(_) | EditedEnd::Unset | EditedEnd::Joins => (Some(*from), Some(edit.made)),
            },
        };
        let ends = ends.into_iter().chain(edit.was.map(|was| was.to)).max().unwrap_or(edit.at());
        let absence = |span| PinnedAbsence { span, made, begun: false };
        Self {
            visit: edit.visit,
            business: edit.business,
            latest: made,
            open_from,
            ahead: set,
            was: edit.was.map(|was| (was, made)).into_iter().collect(),
            absences: edit.absences().map(absence).collect(),
            until: ends.max(edit.at()).moved(1),
        }
    }

    /// Adds another edit of the same visit. The last one says how long the visit is.
    pub(super) fn add(&mut self, other: Self) {
        if other.latest > self.latest {
            (self.latest, self.open_from, self.ahead) = (other.latest, other.open_from, other.ahead);
        }
        self.was.extend(other.was);
        self.absences.extend(other.absences);
        self.until = self.until.max(other.until);
    }
}
