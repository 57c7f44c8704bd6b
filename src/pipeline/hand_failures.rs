//! Writes failed check-ins for users of the API. They are only rows: nothing is decided about them, and no fact changes
//! them.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::oneshot;

use super::{
    edits::EditFault,
    ended_early::{EndedEarly, reply},
    state::Pipeline,
};
use crate::{
    access::Reach,
    base::{
        clock::WallTime,
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, FailedCheckin, FailedCheckinId, Snapshot},
    },
    directory::Coworker,
    store::HandFailure,
};

/// The fields of a failed check-in that a user may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFailure {
    /// When it was attempted.
    pub at: WallTime,
    /// The devices.
    pub macs: BTreeSet<MacAddr>,
    /// Free text.
    pub description: Option<String>,
    /// The teams then; `None` for those that the directory knows.
    pub teams: Option<String>,
    /// The plan then; the same.
    pub tariff: Option<String>,
    /// The platform's free text for callers; `None` keeps what is there.
    pub system_id: Option<String>,
}

/// What a user of the API wants of a failed check-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedFailure {
    /// A new one.
    Create {
        /// Who; `None` if no one was recognised.
        coworker: Option<CoworkerId>,
        /// Where.
        business: BusinessId,
        /// What it names as its source.
        source: CheckinSource,
        /// The rest.
        fields: WrittenFailure,
    },
    /// Other fields.
    Change {
        /// Which.
        id: FailedCheckinId,
        /// The fields.
        fields: WrittenFailure,
    },
    /// None at all.
    Remove {
        /// Which.
        id: FailedCheckinId,
    },
}

/// A failed check-in that waits to be written.
#[derive(Debug)]
pub struct FailureRequest {
    /// What is wanted.
    pub wanted: WantedFailure,
    /// The user.
    pub by: Arc<str>,
    /// Whose records the user may see.
    pub reach: Reach,
    /// Where the answer goes. If it is closed, the client has gone and nothing is done.
    pub reply: oneshot::Sender<FailureAnswer>,
}

/// What became of it.
#[derive(Debug)]
pub enum FailureAnswer {
    /// The failed check-in as it is now; a deleted one as it was.
    Done(Box<FailedCheckin>),
    /// There is no such failed check-in.
    Missing,
    /// checkind wrote it, so no user may change it.
    NotByHand,
    /// What was sent cannot be.
    Faults(Vec<EditFault>),
}

impl From<Vec<EditFault>> for FailureAnswer {
    fn from(faults: Vec<EditFault>) -> Self {
        Self::Faults(faults)
    }
}

/// Why a request ends early.
type FailureStop = EndedEarly<FailureAnswer>;

impl Pipeline {
    /// Carries out a request, and answers it.
    pub(super) async fn answer_failure(&mut self, request: FailureRequest) {
        let ended = self.write_failure(&request).await;
        reply(request.reply, ended, "a failed check-in was not written");
    }

    async fn write_failure(&self, request: &FailureRequest) -> Result<FailureAnswer, FailureStop> {
        let (now, store) = (self.now().wall, &self.context.store);
        match &request.wanted {
            WantedFailure::Create { coworker, business, source, fields } => {
                let calendar = self.calendar(*business, fields.at, &request.reach)?;
                if let Some(coworker) = coworker {
                    self.check_coworker(*coworker, *business, fields.at, &request.reach)?;
                }
                let (then, business_name) = self.snapshot(*coworker, *business, fields.at);
                let failure = HandFailure {
                    coworker: *coworker,
                    full_name: then.full_name.as_deref(),
                    business: *business,
                    business_name: business_name.as_deref(),
                    source: *source,
                    at: fields.at.min(now),
                    macs: &fields.macs,
                    teams: fields.teams.as_deref().or(then.teams.as_deref()),
                    tariff: fields.tariff.as_deref().or(then.tariff.as_deref()),
                    description: fields.description.as_deref(),
                    system_id: fields.system_id.as_deref(),
                    calendar: &calendar,
                };
                let id = store.add_hand_failure(&failure, &request.by, now).await?;
                Ok(store
                    .failure_of(id)
                    .await?
                    .map_or(FailureAnswer::Missing, |found| FailureAnswer::Done(found.into())))
            }
            WantedFailure::Change { id, fields } => {
                let known = self.known_failure(*id, &request.reach).await?;
                let calendar = self.calendar(known.business_id, fields.at, &Reach::All)?;
                let failure = HandFailure {
                    coworker: known.coworker_id,
                    full_name: known.coworker_full_name.as_deref(),
                    business: known.business_id,
                    business_name: known.business_name.as_deref(),
                    source: known.source,
                    at: fields.at.min(now),
                    macs: &fields.macs,
                    teams: fields.teams.as_deref(),
                    tariff: fields.tariff.as_deref(),
                    description: fields.description.as_deref(),
                    system_id: fields.system_id.as_deref(),
                    calendar: &calendar,
                };
                if !store.change_hand_failure(*id, &failure, &request.by, now).await? {
                    return Ok(FailureAnswer::NotByHand);
                }
                Ok(FailureAnswer::Done(self.known_failure(*id, &Reach::All).await?))
            }
            WantedFailure::Remove { id } => {
                let known = self.known_failure(*id, &request.reach).await?;
                let is_removed = store.remove_hand_failure(*id).await?;
                Ok(if is_removed { FailureAnswer::Done(known) } else { FailureAnswer::NotByHand })
            }
        }
    }

    async fn known_failure(&self, id: FailedCheckinId, reach: &Reach) -> Result<Box<FailedCheckin>, FailureStop> {
        let found = self.context.store.failed_checkin(id).await?;
        let found = found.filter(|found| reach.includes(found.business_id));
        found.map(Box::new).ok_or(FailureStop::Answered(FailureAnswer::Missing))
    }

    /// What the directory knew then.
    fn snapshot(&self, coworker: Option<CoworkerId>, business: BusinessId, at: WallTime) -> (Snapshot, Option<String>) {
        let directories = self.context.directories.borrow();
        let directory = directories.at(at);
        let known = coworker.and_then(|coworker| {
            directory.coworker(coworker).or_else(|| directories.latest().coworker(coworker)).map(Coworker::snapshot)
        });
        let policies = self.context.policies.borrow();
        let named = policies.latest(business).map(|policy| policy.site.name.clone());
        (known.unwrap_or_default(), directory.business(business).map(ToOwned::to_owned).or(named))
    }
}
