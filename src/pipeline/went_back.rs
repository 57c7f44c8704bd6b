//! Notices when the shared database went back in time, because it was restored or a failover discarded commits, and
//! brings back what can be brought back.
//!
//! Every transaction moves the mark of this gateway forward, and fails if the mark is behind the last commit: then that
//! commit is no longer in the database. A gateway without anything to write compares the mark every few seconds. The
//! spool then delivers again what the database lost, and the pipeline reads everything again that it remembered.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use super::{
    attempts::{PipelineError, retry},
    present_people::PresentPeople,
    state::Pipeline,
};
use crate::{
    base::clock::Now,
    source::Delivery,
    store::{Batch, CommitMark, StoreError},
};

/// How often a gateway that writes nothing, a standby too, compares its mark if the question that is asked for all parts
/// has not been answered meanwhile.
pub const COMPARE_EVERY: Duration = Duration::from_secs(10);

impl Pipeline {
    /// The place in the spool up to which everything is committed once these messages are.
    pub(super) fn place_of(&self, deliveries: &[Delivery]) -> Option<i64> {
        let spool = self.context.spool.as_ref()?;
        spool.last_of(deliveries.iter().filter_map(|delivery| delivery.receipt.place()))
    }

    /// Moves the mark to `next` in a transaction. False if the database went back.
    pub(super) async fn move_mark(&self, transaction: &mut Batch, next: CommitMark) -> Result<bool, StoreError> {
        match &self.context.spool {
            Some(spool) if self.mark.has_begun => transaction.move_mark(spool.id(), self.mark.known, next).await,
            Some(_) | None => Ok(true),
        }
    }

    /// Notes that a transaction with this mark is committed.
    pub(super) fn note_mark(&mut self, mark: CommitMark) {
        if let Some(spool) = self.context.spool.as_ref().filter(|_| self.mark.has_begun) {
            self.mark.known = CommitMark { turn: mark.turn, place: mark.place.max(self.mark.known.place) };
            self.mark.compared_at = Some(self.context.clock.now().boot);
            spool.mark(mark.place);
        }
    }

    /// Compares the mark with what the database has answered since the last commit, and ends the condition after a day.
    pub(super) async fn compare_mark(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let Some(spool) = self.context.spool.clone().filter(|_| self.mark.has_begun) else { return Ok(()) };
        let Now { wall, boot: now } = self.context.clock.now();
        spool.forget_went_back(&self.context.health, wall);
        let compared_at = self.mark.compared_at;
        // An answer to a question that was sent before the last commit says nothing about it.
        let told = self.news().filter(|news| compared_at.is_none_or(|at| news.asked_at > at));
        match told.and_then(|news| news.found.map(|found| (news.asked_at, found))) {
            Some((asked_at, found)) if found.mark.is_some_and(|mark| mark.includes(self.mark.known)) => {
                self.mark.compared_at = Some(asked_at);
                return Ok(());
            }
            None if compared_at.is_some_and(|at| now.since(at) < COMPARE_EVERY) => return Ok(()),
            Some(_) | None => {}
        }
        let found = retry!(self, deadline, self.context.store.mark(spool.id()));
        if found.is_some_and(|found| found.includes(self.mark.known)) {
            self.mark.compared_at = Some(now);
            return Ok(());
        }
        self.recover_again(deadline).await
    }

    /// Reads the mark, and requests from the spool what the database has lost since the last commit, also if that was
    /// in an earlier process.
    pub(super) async fn begin_mark(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let Some(spool) = self.context.spool.clone() else { return Ok(()) };
        let found = retry!(self, deadline, self.context.store.begin_mark(spool.id()));
        let known = CommitMark { place: spool.marked(), ..self.mark.known };
        if !found.includes(known) {
            let again = spool.deliver_again(found.place);
            spool.report_went_back(again, &self.context.health, self.context.clock.now().wall);
            self.mark.times = self.mark.times.wrapping_add(1);
        }
        self.mark.has_begun = true;
        self.mark.known = found;
        self.mark.last_turn = self.mark.last_turn.max(found.turn);
        self.mark.compared_at = Some(self.context.clock.now().boot);
        Ok(())
    }

    /// Recovers as after a restart, because everything remembered may be wrong.
    ///
    /// Boxed, because recovery itself commits and may find that the database has gone back again.
    pub(super) fn recover_again<'a>(
        &'a mut self,
        deadline: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), PipelineError>> {
        async move {
            // Presences that were not written yet are lost with the rest; their time was not covered either.
            self.present = PresentPeople::default();
            self.unproven = BTreeMap::new();
            self.past_directory = None;
            self.reviewed_version = None;
            self.next_deadline = None;
            self.ask_for_newer();
            self.recover(deadline).await
        }
        .boxed()
    }
}
