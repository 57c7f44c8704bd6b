//! PURE. What a user of the API said about a check-in, as the log stores it.
//!
//! An edit is filed at the first instant that it says something about, so a fold knows it before it matters.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    digest::FactDigest,
    order::{FactKey, FactOrder, FactRank},
    subject::Subject,
};
use crate::base::{
    clock::WallTime,
    record::{BusinessId, CheckinSource},
};

/// What a user of the API said about one check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditFact {
    /// Where the check-in is.
    pub business: BusinessId,
    /// The coworker.
    pub subject: Subject,
    /// When it was said.
    pub made: WallTime,
    /// Random: each request is an edit of its own.
    pub digest: FactDigest,
    /// The identity of the check-in.
    pub visit: Uuid,
    /// What the check-in names as its source.
    pub source: CheckinSource,
    /// The user.
    pub by: Arc<str>,
    /// The interval that the check-in had before; `None` if the edit creates it. An open check-in had lasted until
    /// `made`.
    pub was: Option<TimeSpan>,
    /// What it says.
    pub edit: Edit,
}

/// What an edit says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edit {
    /// The check-in is this long.
    Set {
        /// Its beginning.
        from: WallTime,
        /// Its end.
        end: EditedEnd,
        /// Whether an administrator ignored what admission says.
        overrides: bool,
    },
    /// There was no such check-in.
    Removed,
    /// A check-in was asked for and refused.
    Refused {
        /// When it would have begun.
        from: WallTime,
        /// The code of the reason.
        reason: String,
        /// More detail for the front desk.
        detail: Option<String>,
    },
}

/// The end that an edit sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EditedEnd {
    /// It ends at this instant.
    At(WallTime),
    /// It is open, and was at this instant: only what happened later can end it.
    NotBefore(WallTime),
    /// Only the beginning is set.
    Unset,
    /// The person came in: if they are in already, the edit only refreshes that check-in, and otherwise sets only the
    /// beginning.
    Joins,
}

/// An interval without its last instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimeSpan {
    /// Its first instant.
    pub from: WallTime,
    /// The first instant after it.
    pub to: WallTime,
}

impl TimeSpan {
    /// Whether it contains this instant.
    pub fn contains(self, at: WallTime) -> bool {
        self.from <= at && at < self.to
    }
}

impl EditFact {
    /// The first instant that it says something about.
    pub fn at(&self) -> WallTime {
        let was = self.was.map(|was| was.from);
        let set = match self.edit {
            Edit::Set { from, .. } | Edit::Refused { from, .. } => Some(from),
            Edit::Removed => None,
        };
        was.into_iter().chain(set).min().unwrap_or(self.made)
    }

    /// Its key in the log.
    pub fn key(&self) -> FactKey {
        FactKey::of(self.subject, self.at(), self.digest)
    }

    /// Its place in the order of time.
    pub fn place(&self) -> FactOrder {
        FactOrder {
            at: self.at(),
            rank: FactRank::Edit,
            ordinal: u64::try_from(self.made.millis()).unwrap_or(0),
            digest: self.digest,
        }
    }

    /// The parts of the former interval that are no longer part of the check-in: the person was not in then.
    pub fn absences(&self) -> impl Iterator<Item = TimeSpan> + use<> {
        let kept = match self.edit {
            Edit::Set { from, end: EditedEnd::At(to), .. } => Some((from, Some(to))),
            Edit::Set { from, end: EditedEnd::NotBefore(_) | EditedEnd::Unset | EditedEnd::Joins, .. } => {
                Some((from, None))
            }
            Edit::Removed | Edit::Refused { .. } => None,
        };
        let parts = self.was.map(|was| match kept {
            None => [Some(was), None],
            Some((from, to)) => [
                Some(TimeSpan { from: was.from, to: was.to.min(from) }),
                to.map(|to| TimeSpan { from: was.from.max(to), to: was.to }),
            ],
        });
        parts.into_iter().flatten().flatten().filter(|span| span.from < span.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> WallTime {
        WallTime::from_millis(1_772_442_000_000 + minute * 60_000)
    }

    fn span(from: i64, to: i64) -> TimeSpan {
        TimeSpan { from: at(from), to: at(to) }
    }

    fn edit(was: Option<TimeSpan>, edit: Edit) -> EditFact {
        EditFact {
            business: BusinessId(1),
            subject: Subject(7),
            made: at(600),
            digest: FactDigest([7; 16]),
            visit: Uuid::nil(),
            source: CheckinSource::Manual,
            by: "desk@example.com".into(),
            was,
            edit,
        }
    }

    #[test]
    fn what_an_edit_takes_away_is_an_absence() {
        let set = |from: i64, end| Edit::Set { from: at(from), end, overrides: false };
        let cases = [
            (Some(span(0, 60)), Edit::Removed, vec![span(0, 60)], 0),
            (Some(span(0, 60)), set(0, EditedEnd::At(at(30))), vec![span(30, 60)], 0),
            (Some(span(0, 60)), set(10, EditedEnd::At(at(90))), vec![span(0, 10)], 0),
            (Some(span(0, 60)), set(10, EditedEnd::At(at(50))), vec![span(0, 10), span(50, 60)], 0),
            (Some(span(0, 60)), set(70, EditedEnd::At(at(90))), vec![span(0, 60)], 0),
            (Some(span(20, 60)), set(0, EditedEnd::At(at(10))), vec![span(20, 60)], 0),
            (Some(span(20, 60)), set(0, EditedEnd::NotBefore(at(600))), vec![], 0),
            (Some(span(0, 60)), set(20, EditedEnd::Unset), vec![span(0, 20)], 0),
            (None, set(20, EditedEnd::At(at(50))), vec![], 20),
        ];
        for (was, says, absences, filed) in cases {
            let edit = edit(was, says);
            assert_eq!(edit.absences().collect::<Vec<_>>(), absences, "{edit:?}");
            assert_eq!(edit.at(), at(filed), "{edit:?}");
        }
    }
}
