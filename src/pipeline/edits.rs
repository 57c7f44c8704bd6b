//! Decides and commits what users of the API say about check-ins.
//!
//! An edit is a fact like any other, so it takes the same path: it is folded with everything else that is known about
//! the person, and committed with its decision. A check-in without a coworker, and one whose facts are deleted, is only
//! a row.

mod old;
mod plan;
mod request;

use std::{collections::BTreeSet, sync::Arc};

use tokio::time;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    old::OldEdit,
    plan::{Overlap, PlannedSet},
    request::{EditEnded, edit_of},
};
pub use self::{
    plan::{EditFault, WantedTimes},
    request::{EditAnswer, EditRequest, WantedEdit},
};
use super::{
    attempts::{PipelineError, STALE},
    batch_work::{BatchWork, CommitEnd},
    ended_early::reply,
    intake::{Intake, NewEdit},
    state::{Pipeline, calendar_of},
};
use crate::{
    access::Reach,
    base::{
        clock::WallTime,
        fact::{Edit, EditFact, EditedEnd, FactDigest, Subject},
        random,
        record::{BusinessId, Checkin, CheckinId, CoworkerId},
    },
    engine::Decision,
    policy::{LATEST, calendar::Calendar},
    store::{PlainCheckin, StoreError},
};

/// How often an edit waits [`STALE`] for a changed directory, while nothing else is decided. After that, a person who is
/// not in the loaded one counts as unknown.
const DIRECTORY_WAITS: usize = 6;

/// What became of the fact of an edit.
#[derive(Debug)]
pub(super) enum EditEnd {
    /// It is committed with this decision.
    Committed(Decision),
    /// It was committed before.
    Known,
    /// The database does not take it.
    Unfit(StoreError),
}

impl Pipeline {
    /// Decides an edit and answers it.
    pub(super) async fn answer_edit(
        &mut self,
        request: EditRequest,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let ended = self.decide_edit(&request, deadline).await?;
        if reply(request.reply, ended, "an edit of a check-in was not taken") {
            // It may have opened a check-in without a coworker in a pass day that is over.
            self.plain_day = None;
        }
        Ok(())
    }

    async fn decide_edit(
        &mut self,
        request: &EditRequest,
        deadline: &CancellationToken,
    ) -> Result<Result<EditAnswer, EditEnded>, PipelineError> {
        let planned = match self.plan(request).await {
            Ok(planned) => planned,
            Err(early) => return Ok(Err(early)),
        };
        let Planned { new, before } = planned;
        let (at, coworker, visit, created) =
            (new.edit.at(), new.edit.subject.as_coworker(), new.edit.visit, before.is_none());
        let decision = match self.commit_edit(new, deadline).await? {
            EditEnd::Committed(decision) => Some(decision),
            EditEnd::Known => None,
            EditEnd::Unfit(error) => return Ok(Err(error.into())),
        };
        if let Some((reason, decision)) = decision.as_ref().and_then(|decision| Some((decision.reason?, decision))) {
            let detail = decision.detail.as_deref().map(ToOwned::to_owned);
            return Ok(Ok(EditAnswer::Refused { reason, detail }));
        }
        if let (WantedEdit::Remove { .. }, Some(before)) = (&request.wanted, before) {
            return Ok(Ok(EditAnswer::Done(before)));
        }
        // A new check-in may have joined one that was there.
        let visit = decision.and_then(|decision| decision.visit).unwrap_or(visit);
        Ok(self.checkin_after(visit, coworker.filter(|_| created), at).await)
    }

    async fn checkin_after(
        &self,
        visit: Uuid,
        coworker: Option<CoworkerId>,
        at: WallTime,
    ) -> Result<EditAnswer, EditEnded> {
        let store = &self.context.store;
        if let Some(found) = store.checkin_of(visit).await? {
            return Ok(EditAnswer::Done(Box::new(found)));
        }
        let Some(coworker) = coworker else { return Ok(EditAnswer::Missing) };
        let joined = store.overlapping_checkins(coworker, (at, at.moved(1))).await?;
        let joined = joined.into_iter().next().map(|(found, _)| EditAnswer::Done(Box::new(found)));
        Ok(joined.unwrap_or(EditAnswer::Missing))
    }

    /// Turns what is wanted into a fact, or carries it out if it is only about a row.
    async fn plan(&self, request: &EditRequest) -> Result<Planned, EditEnded> {
        let (now, store) = (self.now().wall, &self.context.store);
        match request.wanted {
            WantedEdit::Create { coworker, business, times, source, overrides } => {
                let calendar = self.calendar(business, times.from, &request.reach)?;
                let set = plan::created(times, now, &calendar)?;
                let Some(coworker) = coworker else {
                    let plain = PlainCheckin { business, source, times: set_times(set), calendar: &calendar };
                    let id = store.add_plain_checkin(plain, &request.by, request.system_id.as_deref(), now).await?;
                    return Err(EditEnded::Answered(self.checkin_after(id, None, set.from).await?));
                };
                if self.check_coworker(coworker, business, set.from, &request.reach).is_err() {
                    self.take_up_directory().await?;
                }
                self.check_coworker(coworker, business, set.from, &request.reach)?;
                if set.from < now.minus(LATEST) {
                    let message = "is more than eight days ago: what admission would have said is no longer known";
                    return Err(vec![EditFault::new("FromTime", message)].into());
                }
                if let EditedEnd::At(_) = set.end {
                    let others = store.overlapping_checkins(coworker, (set.span.from, set.span.to)).await?;
                    match plan::overlap(business, set.span, &others) {
                        Overlap::Free => {}
                        Overlap::Covered(id) => return Err(done(self.known_checkin(id, &Reach::All).await?)),
                        Overlap::Extends(id, times) => return self.plan_change(request, id, times).await,
                        Overlap::Blocked(by, at) => return Err(EditEnded::Answered(EditAnswer::Blocked { by, at })),
                    }
                }
                let edit = EditFact {
                    business,
                    subject: Subject::coworker(coworker),
                    made: now,
                    digest: FactDigest(random::uuid().into_bytes()),
                    visit: random::uuid(),
                    source,
                    by: Arc::clone(&request.by),
                    was: None,
                    edit: Edit::Set { from: set.from, end: set.end, overrides },
                };
                let new = NewEdit { edit, asks: true, system_id: request.system_id.clone() };
                Ok(Planned { new, before: None })
            }
            WantedEdit::Change { id, times } => self.plan_change(request, id, times).await,
            WantedEdit::Remove { id } => {
                let known = self.known_checkin(id, &request.reach).await?;
                let Some(coworker) = known.coworker_id else {
                    store.remove_plain_checkin(id).await?;
                    return Err(done(known));
                };
                if Self::is_old(&known, now) {
                    self.amend(Self::old_edit(request, &known, coworker, None), now).await?;
                    return Err(done(known));
                }
                Ok(Self::planned(request, known, coworker, now, Edit::Removed))
            }
        }
    }

    async fn plan_change(
        &self,
        request: &EditRequest,
        id: CheckinId,
        times: WantedTimes,
    ) -> Result<Planned, EditEnded> {
        let (now, store) = (self.now().wall, &self.context.store);
        let known = self.known_checkin(id, &request.reach).await?;
        let calendar = self.calendar(known.business_id, known.from_time, &Reach::All)?;
        let Some(set) = plan::changed(&known, times, now, &calendar)? else {
            if let Some(text) = &request.system_id {
                store.set_system_id(id, text, &request.by, now).await?;
            }
            return Err(done(self.known_checkin(id, &Reach::All).await?));
        };
        let Some(coworker) = known.coworker_id else {
            store
                .change_plain_checkin(id, set_times(set), &calendar, (&request.by, request.system_id.as_deref()), now)
                .await?;
            return Err(done(self.known_checkin(id, &Reach::All).await?));
        };
        let others = store.overlapping_checkins(coworker, (set.span.from, set.span.to)).await?;
        if let Some((by, at)) = plan::blocking(&known, &others) {
            return Err(EditEnded::Answered(EditAnswer::Blocked { by, at }));
        }
        if Self::is_old(&known, now) {
            let times = (set.span.from, set.span.to);
            self.amend(Self::old_edit(request, &known, coworker, Some(times)), now).await?;
            return Err(done(self.known_checkin(id, &Reach::All).await?));
        }
        let set = Edit::Set { from: set.from, end: set.end, overrides: false };
        Ok(Self::planned(request, known, coworker, now, set))
    }

    fn planned(
        request: &EditRequest,
        before: Box<Checkin>,
        coworker: CoworkerId,
        now: WallTime,
        says: Edit,
    ) -> Planned {
        let edit = edit_of(&request.by, &before, coworker, now, says);
        let new = NewEdit { edit, asks: false, system_id: request.system_id.clone() };
        Planned { new, before: Some(before) }
    }

    async fn known_checkin(&self, id: CheckinId, reach: &Reach) -> Result<Box<Checkin>, EditEnded> {
        let found = self.context.store.checkin(id).await?;
        let found = found.filter(|found| reach.includes(found.business_id));
        found.map(Box::new).ok_or(EditEnded::Answered(EditAnswer::Missing))
    }

    /// The pass days of a business.
    pub(super) fn calendar(
        &self,
        business: BusinessId,
        at: WallTime,
        reach: &Reach,
    ) -> Result<Calendar, Vec<EditFault>> {
        let policies = self.context.policies.borrow();
        if !reach.includes(business) || policies.latest(business).is_none() {
            let message = "is no business of a gateway that records here";
            return Err(vec![EditFault::new("BusinessId", message)]);
        }
        Ok(calendar_of(&policies, business, at))
    }

    /// Waits until a changed directory is loaded: a client that creates a person checks them in next.
    async fn take_up_directory(&self) -> Result<(), StoreError> {
        for _ in 0..DIRECTORY_WAITS {
            let mut directories = self.context.directories.clone();
            directories.mark_unchanged();
            if self.context.store.newest_directory().await? == self.directory_version() {
                break;
            }
            self.ask_for_newer();
            let _asked_again = time::timeout(STALE, directories.changed()).await;
        }
        Ok(())
    }

    pub(super) fn check_coworker(
        &self,
        coworker: CoworkerId,
        business: BusinessId,
        at: WallTime,
        reach: &Reach,
    ) -> Result<(), Vec<EditFault>> {
        let directories = self.context.directories.borrow();
        let known = directories.at(at).coworker(coworker).or_else(|| directories.latest().coworker(coworker));
        // A limited user does not learn who belongs to other businesses.
        let seen = known.filter(|known| reach.only().is_none_or(|_| known.belongs_to(business)));
        match seen {
            Some(_) => Ok(()),
            None => Err(vec![EditFault::new("CoworkerId", "is no coworker")]),
        }
    }

    /// Whether its facts may be deleted already.
    fn is_old(known: &Checkin, now: WallTime) -> bool {
        known.from_time < now.minus(LATEST)
    }

    fn old_edit<'a>(
        request: &'a EditRequest,
        known: &'a Checkin,
        coworker: CoworkerId,
        times: Option<(WallTime, WallTime)>,
    ) -> OldEdit<'a> {
        OldEdit { known, coworker, times, by: &request.by, system_id: request.system_id.clone() }
    }

    /// Decides and commits one edit, however long the database is away.
    pub(super) async fn commit_edit(
        &mut self,
        new: NewEdit,
        deadline: &CancellationToken,
    ) -> Result<EditEnd, PipelineError> {
        let digest = new.edit.digest;
        let mut facts = Intake { edits: vec![new], ..Intake::default() };
        let no_people = BTreeSet::new();
        loop {
            facts.version = self.directory_version();
            let work = BatchWork { read_by: Some(facts.version), ..BatchWork::fold_now(&facts, &no_people) };
            match self.try_commit(work, deadline).await? {
                CommitEnd::Stale => {}
                CommitEnd::Unfit(error) => return Ok(EditEnd::Unfit(error)),
                CommitEnd::Committed(result) => {
                    let mut decisions = result.decided.into_iter().flat_map(|decided| decided.decisions);
                    let decision = decisions.find(|(known, _)| *known == digest);
                    return Ok(decision.map_or(EditEnd::Known, |(_, decision)| EditEnd::Committed(decision)));
                }
            }
        }
    }
}

/// A fact to commit, and the check-in that it is about as it was before.
struct Planned {
    new: NewEdit,
    before: Option<Box<Checkin>>,
}

/// The answer that a check-in is as it should be.
fn done(checkin: Box<Checkin>) -> EditEnded {
    EditEnded::Answered(EditAnswer::Done(checkin))
}

/// The interval of a row without facts.
fn set_times(set: PlannedSet) -> (WallTime, Option<WallTime>) {
    let to = match set.end {
        EditedEnd::At(to) => Some(to),
        EditedEnd::NotBefore(_) | EditedEnd::Unset | EditedEnd::Joins => None,
    };
    (set.from, to)
}
