//! Watches the wall clock: waits until it is set, and moves open check-ins when it is stepped.

use std::{collections::BTreeSet, time::Duration};

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    arrivals::PEOPLE,
    attempts::{PipelineError, retry},
    clock_step::{ClockStep, stepped},
    deadlines::TIMERS,
    state::{Pipeline, TICK},
};
use crate::base::{
    clock::{BootTime, CONFIRMED_AFTER, EARLIEST, FIRST_SYNC},
    fact::Subject,
    health::ConditionKind,
};

/// How long the condition `clock_stepped` stays raised after a step.
const STEP_REMEMBERED: Duration = Duration::from_mins(10);

impl Pipeline {
    /// Waits while the wall clock shows a time before this program existed. Returns false if the daemon stops
    /// meanwhile.
    ///
    /// Nothing is taken from the queues meanwhile: the broker keeps the door messages, and the captures coalesce the
    /// presences.
    pub(super) async fn wait_for_clock(&mut self, stop: &CancellationToken) -> bool {
        loop {
            let now = self.context.clock.now();
            self.report_alive();
            if now.wall >= EARLIEST {
                self.context.health.clear(ConditionKind::ClockNotSet, "");
                return true;
            }
            let detail = "the wall clock has not been set since the machine started; door messages wait at the broker \
                          until it is. Set it, or give this machine a time server that it can reach";
            self.context.health.raise(ConditionKind::ClockNotSet, "", detail);
            tokio::select! {
                () = stop.cancelled() => return false,
                () = time::sleep(TICK) => {}
            }
        }
    }

    /// Detects a step of the wall clock. Once the step is believed, open check-ins move with it. By the boot clock
    /// nothing changes for them: the step checks no one out, and the time that people have been in stays right.
    pub(super) async fn watch_clock(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let now = self.context.clock.now();
        if let Some(by) = self.last_clocks.and_then(|last| stepped(last, now)) {
            let moved = self.move_people(by, deadline).await?;
            let people = if moved == 1 { "person" } else { "people" };
            let detail = format!(
                "the wall clock was stepped by {}; the open check-ins of {moved} {people} were moved with it",
                seconds(by / 1000)
            );
            self.context.health.raise(ConditionKind::ClockStepped, "", detail);
            self.stepped_at = Some(now.boot);
        } else if let Some(by) = self.context.clock.doubt() {
            let detail = format!(
                "the wall clock was stepped by {}. Records keep the time before the step until it has lasted an hour; if \
                 the clock is right now, restart checkind",
                seconds(by / 1000)
            );
            self.context.health.raise(ConditionKind::ClockStepped, "", detail);
            self.stepped_at = Some(now.boot);
        } else if self.stepped_at.is_some_and(|at| now.boot.since(at) > STEP_REMEMBERED) {
            self.context.health.clear(ConditionKind::ClockStepped, "");
            self.stepped_at = None;
        }
        self.last_clocks = Some(now);
        Ok(())
    }

    /// Moves the open check-ins by `by` milliseconds, along with the facts that our clock stamped about these people.
    /// Returns how many people they belong to.
    ///
    /// At the first synchronisation after boot, check-ins that were open before boot keep their times, because the
    /// clock may have been right when it stamped them.
    async fn move_people(&mut self, by: i64, deadline: &CancellationToken) -> Result<usize, PipelineError> {
        let now = self.context.clock.now();
        let first = now.boot < BootTime::from_duration(FIRST_SYNC);
        let moving = self.present.stamped_before_step(by, first, now);
        // From here on the new time is in force, and folds run up to it.
        self.last_clocks = Some(now);
        self.coverage.step(by);
        let step = ClockStep { by, wrong_from: now.wall.minus(CONFIRMED_AFTER) };
        let mut people: BTreeSet<Subject> = moving.clone();
        if by < 0 {
            // The clock was ahead: facts that it stamped are in the future, including those of people who have left.
            let business = self.context.business;
            people.extend(retry!(self, deadline, self.context.store.people_ahead(business, step.wrong_from, PEOPLE)));
        }
        let people: Vec<Subject> = people.into_iter().collect();
        for chunk in people.chunks(TIMERS) {
            self.fold_now(&chunk.iter().copied().collect(), Some((step, &moving)), deadline).await?;
        }
        Ok(moving.len())
    }
}

fn seconds(number: i64) -> String {
    let plural = if number.abs() == 1 { "" } else { "s" };
    format!("{number} second{plural}")
}
