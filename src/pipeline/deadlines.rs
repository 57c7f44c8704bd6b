//! Folds people up to now without a new fact: those whose deadline has passed, or everyone who is in.

use std::{collections::BTreeSet, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    attempts::{PipelineError, retry},
    batch_work::BatchWork,
    clock_step::ClockStep,
    intake::Intake,
    state::Pipeline,
};
use crate::base::{clock::BootTime, fact::Subject};

/// The maximum number of people who are folded up to now in one transaction; the rest follow in the next.
pub(super) const TIMERS: usize = 1000;

/// How often the next deadline is read again if another gateway may have written one, and the question that is asked for
/// all parts has not been answered meanwhile.
const READ_EVERY: Duration = Duration::from_secs(10);

impl Pipeline {
    /// Folds everyone whose deadline has passed: their pass day, their pass or a silence may end the visit.
    pub(super) async fn run_deadlines(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let business = self.context.business;
        // One instant for the whole turn. Deadlines that pass meanwhile wait for the next turn, after new arrivals.
        let now = self.now();
        if let Some(told) = self.news()
            && let Some(found) = told.found
            && let Some((next, read_at)) = &mut self.next_deadline
            && told.asked_at > *read_at
        {
            (*next, *read_at) = (found.next_deadline, told.asked_at);
        }
        loop {
            // Most turns end here, without a query: the next deadline is known, and in the future.
            let is_recent = |read_at: &BootTime| now.boot.since(*read_at) < READ_EVERY;
            let known = self.next_deadline.filter(|(_, at)| !self.context.store.is_shared() || is_recent(at));
            if known.is_some_and(|(next, _)| next.is_none_or(|next| next > now.wall)) {
                return Ok(());
            }
            let mut due = retry!(self, deadline, self.context.store.due(business, now.wall, TIMERS));
            due.retain(|subject| !self.is_left_alone(*subject));
            if due.is_empty() {
                let next = retry!(self, deadline, self.context.store.next_deadline(business));
                self.next_deadline = Some((next, now.boot));
                return Ok(());
            }
            self.fold_now(&due.into_iter().collect(), None, deadline).await?;
            self.report_alive();
            if self.presences_waiting {
                // A silence that cannot be decided yet stays due. It is tried again in the next turn, not in a busy
                // loop.
                return Ok(());
            }
        }
    }

    /// Folds everyone who is in here up to now: at startup, and after an import, which may have removed the pass that a
    /// visit uses.
    pub(super) async fn fold_everyone_present(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let business = self.context.business;
        let mut after = Subject(i64::MIN);
        loop {
            let people = retry!(self, deadline, self.context.store.people_in(business, after, TIMERS));
            let Some(last) = people.last() else { return Ok(()) };
            after = *last;
            self.fold_now(&people.into_iter().collect(), None, deadline).await?;
        }
    }

    /// Folds these people up to now.
    pub(super) async fn fold_now(
        &mut self,
        people: &BTreeSet<Subject>,
        step: Option<(ClockStep, &BTreeSet<Subject>)>,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let no_facts = Intake::default();
        let work = BatchWork { step, ..BatchWork::fold_now(&no_facts, people) };
        let result = self.commit(work, deadline).await?;
        let closed: usize = result.decided.iter().map(|decided| decided.auto_ended).sum();
        let silent: usize = result.decided.iter().map(|decided| decided.ended_by_silence).sum();
        if closed > 0 {
            tracing::info!(closed, silent, "checked out automatically");
        }
        Ok(())
    }
}
