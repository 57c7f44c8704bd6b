//! What a user of the API wants of a check-in, and what became of it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::plan::{EditFault, WantedTimes};
use crate::{
    access::Reach,
    base::{
        clock::WallTime,
        fact::{Edit, EditFact, FactDigest, Subject, TimeSpan},
        random,
        record::{BusinessId, Checkin, CheckinId, CheckinSource, CoworkerId},
    },
    engine::decision::Reason,
    pipeline::ended_early::EndedEarly,
};

/// What a user of the API wants of a check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedEdit {
    /// A new one.
    Create {
        /// Who; without a coworker, the check-in is only a record.
        coworker: Option<CoworkerId>,
        /// Where.
        business: BusinessId,
        /// When.
        times: WantedTimes,
        /// What it names as its source.
        source: CheckinSource,
        /// Whether it exists whatever admission says.
        overrides: bool,
    },
    /// Another interval.
    Change {
        /// Which.
        id: CheckinId,
        /// When.
        times: WantedTimes,
    },
    /// None at all.
    Remove {
        /// Which.
        id: CheckinId,
    },
}

/// An edit that waits to be decided.
#[derive(Debug)]
pub struct EditRequest {
    /// What is wanted.
    pub wanted: WantedEdit,
    /// The user.
    pub by: Arc<str>,
    /// Whose check-ins the user may see.
    pub reach: Reach,
    /// The platform's free text for callers; `None` keeps what is there.
    pub system_id: Option<String>,
    /// Where the answer goes. If it is closed, the client has gone and nothing is done.
    pub reply: oneshot::Sender<EditAnswer>,
}

/// What became of an edit.
#[derive(Debug)]
pub enum EditAnswer {
    /// The check-in as it is now; a deleted one as it was.
    Done(Box<Checkin>),
    /// Admission refused it; a failed check-in says so.
    Refused {
        /// Why.
        reason: Reason,
        /// More for the front desk.
        detail: Option<String>,
    },
    /// Another check-in stands in the way.
    Blocked {
        /// Which.
        by: CheckinId,
        /// Where that is.
        at: BusinessId,
    },
    /// There is no such check-in.
    Missing,
    /// What was sent cannot be.
    Faults(Vec<EditFault>),
}

impl From<Vec<EditFault>> for EditAnswer {
    fn from(faults: Vec<EditFault>) -> Self {
        Self::Faults(faults)
    }
}

/// Why an edit ends before it is a fact.
pub(super) type EditEnded = EndedEarly<EditAnswer>;

/// The fact of an edit of a check-in that exists.
pub(super) fn edit_of(by: &Arc<str>, checkin: &Checkin, coworker: CoworkerId, now: WallTime, says: Edit) -> EditFact {
    EditFact {
        business: checkin.business_id,
        subject: Subject::coworker(coworker),
        made: now,
        digest: FactDigest(random::uuid().into_bytes()),
        visit: checkin.unique_id,
        source: checkin.source,
        by: Arc::clone(by),
        was: Some(TimeSpan { from: checkin.from_time, to: checkin.to_time.unwrap_or(now) }),
        edit: says,
    }
}
