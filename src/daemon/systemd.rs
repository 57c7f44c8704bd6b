//! Notifications to systemd: readiness, reloads, `STATUS=` and the watchdog (sd_notify(3)).

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Ready,
    base::{
        clock::{BootTime, Clock},
        health::{ConditionKind, Health},
    },
    metrics::Metrics,
    source::mqtt::counters::MqttCounters,
};

/// After this long without progress the pipeline counts as stuck, and the watchdog is no longer fed.
const STUCK: Duration = Duration::from_secs(60);

/// How often `STATUS=` is updated, and the longest time between two feeds of the watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How often to check whether the broker's state is known, during start-up.
const START_UP_CHECK: Duration = Duration::from_millis(100);

/// How long start-up waits for the broker. After that `/readyz` no longer reports `starting`.
const START_UP: Duration = Duration::from_secs(10);

/// Reports the daemon's state until it stops.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) clock: Clock,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) counters: Arc<MqttCounters>,
    /// Marks start-up as finished for `/readyz`.
    pub(super) ready: Ready,
    /// When the pipeline last made progress; `None` before it runs.
    pub(super) alive: watch::Receiver<Option<BootTime>>,
    /// Whether a broker session has been started: then start-up finishes with the session's first result.
    pub(super) waits_for_broker: bool,
}

impl Reporter {
    /// Feeds the watchdog while the pipeline makes progress, keeps `STATUS=` and the log up to date, and marks start-up as finished
    /// once the broker's state is known. The captures' states are known already: each is checked when it starts.
    pub(super) async fn run(self, stop: CancellationToken) {
        let watchdog = sd_notify::watchdog_enabled();
        // Three feeds within the watchdog's period, so one may be late.
        let every = watchdog.map_or(STATUS_EVERY, |period| period / 3).min(STATUS_EVERY);
        let began = self.clock.now().boot;
        let mut last_status = String::new();
        loop {
            let now = self.clock.now().boot;
            // A connection, a failure and a time-out are all results that `/readyz` can report.
            let broker_known = !self.waits_for_broker
                || self.counters.is_ready()
                || self.health.is_raised(ConditionKind::BrokerUnavailable, "")
                || self.clock.real(now.since(began)) > START_UP;
            if broker_known {
                self.ready.started();
            }
            // Without a pipeline (standby, records only) nothing can be stuck.
            if watchdog.is_some() && self.alive.borrow().is_none_or(|progress| now.since(progress) < STUCK) {
                notify(&[NotifyState::Watchdog]);
            }
            self.health.log_new_causes();
            let status = status(&self.health, self.metrics.open_now());
            if status != last_status {
                notify(&[NotifyState::Status(&status)]);
                last_status = status;
            }
            let pause = if broker_known { every } else { START_UP_CHECK };
            if stop.run_until_cancelled(time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }
}

/// The text of `STATUS=`: how many check-ins are open, and which conditions are raised.
fn status(health: &Health, open: i64) -> String {
    let conditions = health.conditions();
    let people = if open == 1 { "1 check-in open".to_owned() } else { format!("{open} check-ins open") };
    if conditions.is_empty() {
        return people;
    }
    let raised: Vec<String> = conditions
        .iter()
        .map(|condition| match condition.subject.as_str() {
            "" => condition.kind.name().to_owned(),
            subject => format!("{} {subject}", condition.kind.name()),
        })
        .collect();
    format!("{people}; {}", raised.join(", "))
}

/// Tells systemd that a reload has begun. `RELOADING=1` needs the monotonic time in the same message.
pub(super) fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "could not read the monotonic clock for RELOADING=1"),
    }
}

/// Sends states to systemd. Does nothing without systemd; a failing socket is only logged.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "could not notify systemd");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_counts_check_ins_and_names_every_condition() {
        let health = Health::new(Clock::system());
        assert_eq!(status(&health, 0), "0 check-ins open");
        assert_eq!(status(&health, 1), "1 check-in open");
        health.raise(ConditionKind::CaptureBlind, "eth1", "eth1 is down");
        health.raise(ConditionKind::Standby, "", "another gateway works");
        assert_eq!(status(&health, 2), "2 check-ins open; capture_blind eth1, standby");
    }
}
