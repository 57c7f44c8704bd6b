//! Ends open check-ins without a coworker at the daily cut-off: nothing is folded about them, so no timer ends them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    attempts::{PipelineError, retry},
    state::{Pipeline, calendar_of},
};

/// The most rows that are ended in one transaction; the rest follow in the next. A row is some hundred bytes.
const ROWS: usize = 500;

impl Pipeline {
    /// Ends what is still open of earlier pass days, at startup and once in each pass day. In between it costs a
    /// comparison.
    pub(super) async fn cut_off_plain_checkins(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let now = self.now().wall;
        if self.plain_day.is_some_and(|day| day.contains(now)) {
            return Ok(());
        }
        let business = self.context.business;
        let today = self.policy().calendar().pass_day(now);
        loop {
            let open = retry!(self, deadline, self.context.store.open_plain_checkins(business, today.start, ROWS));
            if open.is_empty() {
                break;
            }
            let policies = Arc::clone(&self.context.policies.borrow());
            let ends: Vec<_> = open
                .iter()
                .map(|(id, from)| {
                    let calendar = calendar_of(&policies, business, *from);
                    (*id, *from, calendar.pass_day(*from).end.min(now), calendar)
                })
                .collect();
            retry!(self, deadline, self.context.store.end_plain_checkins(&ends, now));
            tracing::info!(closed = ends.len(), "check-ins without a coworker ended with their pass day");
            self.report_alive();
        }
        self.plain_day = Some(today);
        Ok(())
    }
}
