//! PURE. What a person's state keeps of edits until a fold has passed the times that they are about.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::{
    clock::WallTime,
    fact::{EditedEnd, FactDigest, TimeSpan},
    record::{BusinessId, CheckinSource},
};

/// What the edits of one visit say about times that a fold has not passed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEdits {
    /// The visit.
    pub(super) visit: Uuid,
    /// The last of its edits that is known.
    pub(super) latest: (WallTime, FactDigest),
    /// The visit as that edit sets it, until it begins.
    pub(super) ahead: Option<VisitAhead>,
    /// What its edits took away, and whether that has begun.
    pub(super) absences: Vec<(TimeSpan, bool)>,
    /// Nothing of it matters from here on.
    pub(super) until: WallTime,
}

/// A visit that an edit has set and that has not begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VisitAhead {
    /// Where.
    pub(super) business: BusinessId,
    /// What its record names as its source.
    pub(super) source: CheckinSource,
    /// Its beginning.
    pub(super) from: WallTime,
    /// Its end.
    pub(super) end: EditedEnd,
}
