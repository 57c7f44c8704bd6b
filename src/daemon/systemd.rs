//! Notifications to systemd: readiness, reloads, `STATUS=` and the watchdog (sd_notify(3)).

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::stalls::StallWatch;
use crate::{
    api::Ready,
    base::{
        clock::Clock,
        health::{ConditionKind, Health},
        turns::Turns,
    },
    metrics::Metrics,
    source::mqtt::counters::MqttCounters,
};

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
    /// When each part must have turned.
    pub(super) turns: Turns,
    /// How far start-up has come.
    pub(super) start_up: watch::Receiver<StartUp>,
}

/// How far start-up has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartUp {
    /// The database is not open, or what the site needs of it is not loaded.
    Opening,
    /// Everything has been started. If a broker session is among it, start-up finishes with the session's first result.
    Started { waits_for_broker: bool },
}

impl Reporter {
    /// Names each part that does not turn, feeds the watchdog while none has been stalled for long, keeps `STATUS=` up
    /// to date, and marks start-up as finished once everything has been started and the broker's state is known. The
    /// captures' states are known then: each is checked when it starts.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let watchdog = sd_notify::watchdog_enabled();
        // Three feeds within the watchdog's period, so one may be late.
        let every = watchdog.map_or(STATUS_EVERY, |period| period / 3).min(STATUS_EVERY);
        let mut began = None;
        let mut last_status = String::new();
        let mut stalls = StallWatch::default();
        let mut checked_at = None;
        loop {
            let now = self.clock.now().boot;
            // A connection, a failure and a time-out are all results that `/readyz` can report.
            let start_up = *self.start_up.borrow_and_update();
            let is_complete = match start_up {
                StartUp::Opening => false,
                StartUp::Started { waits_for_broker } => {
                    let began = *began.get_or_insert(now);
                    !waits_for_broker
                        || self.counters.is_ready()
                        || self.health.is_raised(ConditionKind::BrokerUnavailable, "")
                        || self.clock.real(now.since(began)) > START_UP
                }
            };
            if is_complete {
                self.ready.started();
            }
            let uptime = self.clock.uptime();
            let since = checked_at.replace(uptime).map_or(Duration::ZERO, |before| uptime.saturating_sub(before));
            // If this task itself is late, the whole process was stopped or starved: let the others turn first.
            if since < every * 2 {
                stalls.check(&self.turns.overdue(), &self.health);
            }
            if watchdog.is_some() && !stalls.is_stuck() {
                notify(&[NotifyState::Watchdog]);
            }
            self.health.log_new_causes();
            let status = status(start_up, &self.health, self.metrics.open_now());
            if status != last_status {
                notify(&[NotifyState::Status(&status)]);
                last_status = status;
            }
            let pause = match start_up {
                StartUp::Started { .. } if !is_complete => START_UP_CHECK,
                StartUp::Started { .. } | StartUp::Opening => self.clock.until_beat(every),
            };
            // Check at once when everything has been started.
            let moved = self.start_up.changed();
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = moved => {}
                () = time::sleep(pause) => {}
            }
        }
    }
}

/// The text of `STATUS=`: how many check-ins are open, and which conditions are raised.
fn status(start_up: StartUp, health: &Health, open: i64) -> String {
    let conditions = health.conditions();
    let people = match (start_up, open) {
        (StartUp::Opening, _) => "opening the database".to_owned(),
        (StartUp::Started { .. }, 1) => "1 check-in open".to_owned(),
        (StartUp::Started { .. }, _) => format!("{open} check-ins open"),
    };
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
        let started = StartUp::Started { waits_for_broker: false };
        assert_eq!(status(StartUp::Opening, &health, 0), "opening the database");
        assert_eq!(status(started, &health, 0), "0 check-ins open");
        assert_eq!(status(started, &health, 1), "1 check-in open");
        health.raise(ConditionKind::CaptureBlind, "eth1", "eth1 is down");
        health.raise(ConditionKind::Standby, "", "another gateway works");
        assert_eq!(status(started, &health, 2), "2 check-ins open; capture_blind eth1, standby");
    }
}
