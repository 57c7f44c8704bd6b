//! What the pipeline does before its first batch, and when the database went back in time: it adopts an old log, and
//! reads what it must know after a restart.

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    adopt,
    attempts::{PipelineError, STALE, retry},
    coverage_log::CoverageLog,
    state::Pipeline,
    unknown_devices::UNRECOGNISED_A_DAY,
};
use crate::{engine::decision::Reason, policy::HISTORY};

impl Pipeline {
    /// Reads the coverage and the unknown devices reported today from the database, and folds everyone who is in:
    /// visits that should have ended while the daemon was down are ended now, as of that time.
    pub(super) async fn recover(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        // Adoption may have to wait for the newest directory. This is not a database error, which `retry!` would end at
        // the deadline.
        let adopting = async {
            while retry!(self, deadline, self.adopt(), within adopt::LONGEST).is_none() {
                self.ask_for_newer();
                time::sleep(STALE).await;
            }
            Ok::<_, PipelineError>(())
        };
        tokio::select! {
            adopted = adopting => adopted?,
            () = deadline.cancelled() => return Err(PipelineError::GaveUp),
        }

        self.begin_mark(deadline).await?;
        let now = self.now();
        let business = self.context.business;
        // Without the coverage, no silence of the last few days could be proven.
        let since = now.wall.minus(HISTORY);
        let spans = retry!(self, deadline, self.context.store.coverage(business, false, since));
        self.coverage = CoverageLog::read(spans.get(&business).map_or(&[], Vec::as_slice), now.wall);

        // Without the devices already reported, the daily limit would start over.
        let day = self.policy().calendar().pass_day(now.wall);
        let reason = Reason::UnrecognisedDevice;
        let reported =
            retry!(self, deadline, self.context.store.failed_devices(business, day.start, reason, UNRECOGNISED_A_DAY));
        self.unknown_devices.begin_day(day, reported.into_iter().map(|mac| (reason, mac)).collect());

        self.count_set_aside().await;
        self.fold_everyone_present(deadline).await?;
        self.reviewed_version = Some(self.directory_version());
        self.context.metrics.open_checkins(i64::try_from(self.present.len()).unwrap_or(i64::MAX));
        tracing::info!(open = self.present.len(), business = business.0, "found open check-ins");
        Ok(())
    }
}
