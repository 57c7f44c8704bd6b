//! The pipeline, the single task that decides: it receives, loads, folds, commits and acknowledges.
//!
//! Everything waiting in the queues becomes one batch, usually one transaction. Receipts are spent after the commit, in
//! the order of arrival. While the database is unavailable, the batch waits and nothing more is taken from the queues,
//! so the broker keeps what has not been acknowledged.
//!
//! The path of a card tap: the run loop here takes its message from the queue, and `arrivals` sees it through to the
//! acknowledgement. `read_facts`, with the pure `intake`, turns it into a fact about the person who had the card at the
//! time of the tap. `commit` retries until `transaction` succeeds, which loads the person's state, has the pure
//! `decide` fold the fact over it, and writes the fact and the changed records. A late tap takes the same path, except
//! that `decide::late_from` finds the day from which to refold, and `transaction::refold` loads the state at the
//! beginning of that day and the facts since then.
//!
//! Each turn of the loop ends with `due_work`: expired `deadlines`, a newer directory, and presences and coverage to
//! write. `wall_clock` watches for clock steps, `recovery` runs at startup, `went_back` notices a restored database,
//! `attempts` handles database failures, and `parts` halves what the database does not take.

mod adopt;
mod api_requests;
mod arrivals;
mod attempts;
mod batch_work;
mod clock_step;
mod commit;
mod coverage_log;
mod deadlines;
pub(crate) mod decide;
mod due_work;
mod ended_early;
mod edits;
mod hand_failures;
mod intake;
mod kiosk;
mod known_commits;
mod parts;
mod past_directory;
mod plain_cut_off;
mod present_people;
mod read_facts;
mod recovery;
mod set_aside;
mod state;
mod sub_batch;
mod transaction;
mod unknown_devices;
mod wall_clock;
mod went_back;
mod would_admit;

use std::future;

use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Queue,
    source::{Delivery, Presences},
    store::DatabaseNews,
};
use attempts::RETRY;

pub use api_requests::{ApiRequest, WAITING_REQUESTS};
pub use attempts::{PipelineError, outage};
pub use edits::{EditAnswer, EditFault, EditRequest, WantedEdit, WantedTimes};
pub use hand_failures::{FailureAnswer, FailureRequest, WantedFailure, WrittenFailure};
pub use kiosk::{KioskAnswer, KioskCredential, KioskEnd, KioskRequest, KioskWish};
pub(crate) use state::calendar_of;
pub use state::{Context, Pipeline};
pub use unknown_devices::UNRECOGNISED_A_DAY;
pub use went_back::COMPARE_EVERY;
pub use would_admit::{WouldAdmit, would_admit};

/// The maximum number of messages in one batch. A thousand rows are a few hundred kilobytes and take some ten
/// milliseconds; in a larger batch, the first would wait for the last without saving a significant number of round
/// trips.
const BATCH: usize = 1000;

/// The queues that the pipeline reads.
#[derive(Debug)]
pub struct Inputs {
    /// From the broker session.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// From the captures.
    pub presences: mpsc::Receiver<Presences>,
    /// From the API.
    pub requests: mpsc::Receiver<ApiRequest>,
}

impl Pipeline {
    /// Runs until both queues are closed and empty; `stop` closes them. Gives up at `deadline`.
    ///
    /// # Errors
    /// [`PipelineError::Store`] if another gateway has the lease, [`PipelineError::GaveUp`] at the deadline.
    pub async fn run(
        mut self,
        mut inputs: Inputs,
        stop: CancellationToken,
        deadline: CancellationToken,
    ) -> Result<(), PipelineError> {
        self.report_alive();
        if !self.wait_for_clock(&stop).await {
            return Ok(());
        }
        self.recover(&deadline).await?;
        let mut deliveries = Vec::with_capacity(BATCH);
        let mut stopping = false;
        loop {
            // Wait for something to arrive, at most until something is due. Doors come first, because a person is
            // waiting there.
            let wait = self.longest_wait();
            let (mut presences, mut request) = (Vec::new(), None);
            self.context.turn.rests(wait);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    inputs.deliveries.close();
                    inputs.presences.close();
                    inputs.requests.close();
                }
                taken = inputs.deliveries.recv_many(&mut deliveries, BATCH) => {
                    if taken == 0 {
                        // This queue is closed and empty; the other one may not be empty yet.
                        while let Some(more) = inputs.presences.recv().await {
                            self.process_batch(&mut Vec::new(), more, &deadline).await?;
                        }
                        break;
                    }
                }
                Some(more) = inputs.presences.recv() => presences = more,
                Some(asked) = inputs.requests.recv() => request = Some(asked),
                () = something_new(self.context.news.as_mut()) => {}
                () = time::sleep(wait) => {}
            }
            // Presences waiting in the queue share the transaction.
            while presences.len() < BATCH
                && let Ok(more) = inputs.presences.try_recv()
            {
                presences.extend(more);
            }
            self.report_queues(&inputs);
            // Check the clock before the batch: a step must move what was stamped before it, and nothing stamped after
            // it.
            self.watch_clock(&deadline).await?;
            self.presences_waiting = !inputs.presences.is_empty();
            if !deliveries.is_empty() || !presences.is_empty() {
                self.process_batch(&mut deliveries, presences, &deadline).await?;
            }
            self.answer_api(request, &mut inputs.requests, &deadline).await?;
            self.do_due_work(&deadline).await?;
        }
        // Best effort: at worst, two minutes of presences are lost, along with the coverage of that time.
        if let Ok(Err(error)) = time::timeout(RETRY.longest, self.write_presences()).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the last presences were not written");
        }
        Ok(())
    }

    /// What the shared database has answered to the question that is asked for all parts, if there is an answer.
    fn news(&self) -> Option<DatabaseNews> {
        self.context.news.as_ref().and_then(|news| *news.borrow())
    }

    fn report_queues(&self, inputs: &Inputs) {
        let metrics = &self.context.metrics;
        metrics.queue_depth(Queue::Deliveries, i64::try_from(inputs.deliveries.len()).unwrap_or(i64::MAX));
        metrics.queue_depth(Queue::Presences, i64::try_from(inputs.presences.len()).unwrap_or(i64::MAX));
        self.report_alive();
    }
}

/// Waits until the shared database has something new.
pub async fn something_new(news: Option<&mut watch::Receiver<Option<DatabaseNews>>>) {
    if let Some(news) = news
        && news.changed().await.is_ok()
    {
        return;
    }
    future::pending::<()>().await;
}

#[cfg(test)]
mod tests;
