//! Every metric of the program, exported to Prometheus at `/metrics`.
//!
//! Each starts at zero and has its unit in its name; `instruments` has one row per metric. Labels come from closed
//! lists or from the settings (interfaces, sources), never from a person, card or address. Figures that other parts
//! keep as atomics are read at scrape, see [`Metrics::watch`].

pub mod figures;
mod instruments;
mod plain_text;
mod watched;

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::gauge::ConstGauge,
    registry::Registry,
};

use crate::{
    base::health::{ConditionKind, Health},
    engine::decision::Outcome,
    mapping::content::RejectReason,
};
use instruments::Instruments;
use watched::Watched;

pub use instruments::{ConnectionCut, Queue, SignIn};
pub use watched::{Figure, FigureReader, FigureValue};

/// A format of [`Metrics::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// The plain text format of Prometheus, version 0.0.4, which everything that scrapes can read.
    Plain,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl TextFormat {
    /// The content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Every metric of the program; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    watched: Watched,
    instruments: Instruments,
}

impl Metrics {
    /// Registers everything at zero. `codes` are the reasons of failed check-ins, which label one metric; conditions
    /// are read from `health` at scrape.
    pub fn new(health: Health, codes: &[&'static str]) -> Self {
        let (instruments, watched) = (Instruments::new(codes), Watched::default());
        let mut registry = Registry::with_prefix("checkind");
        instruments.register(&mut registry);
        registry.register_collector(Box::new(Conditions(health)));
        registry.register_collector(Box::new(watched.clone()));
        Self { registry: Arc::new(registry), watched, instruments }
    }

    /// All metrics.
    pub fn text(&self, format: TextFormat) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a String cannot fail");
        match format {
            TextFormat::Plain => plain_text::from_open_metrics(&out),
            TextFormat::OpenMetrics => out,
        }
    }

    /// Adds a reader of figures, called at each scrape, under one label (`interface="eth1"`). A second reader for the
    /// same label replaces the first, so a part that is started again does not count twice.
    pub fn watch(&self, label: &'static str, value: &str, read: FigureReader) {
        self.watched.add(label, value, read);
    }

    /// Counts door events received from the broker.
    pub fn received(&self, events: u64) {
        self.instruments.door_events.inc_by(events);
    }

    /// Counts what kiosks were shown as at a door.
    pub fn kiosk_taps(&self, taps: u64) {
        self.instruments.kiosk_taps.inc_by(taps);
    }

    /// Counts presences received from the captures.
    pub fn presences(&self, presences: u64) {
        self.instruments.presences.inc_by(presences);
    }

    /// Counts sightings whose decisions are durable.
    pub fn decided(&self, outcome: Outcome, sightings: u64) {
        self.instruments.decisions.get_or_create(&[("outcome", outcome.word())]).inc_by(sightings);
    }

    /// Counts a failed check-in for the reason with this code.
    pub fn failed(&self, code: &'static str) {
        self.instruments.failed_checkins.get_or_create(&[("code", code)]).inc();
    }

    /// Counts a message that could not be mapped.
    pub fn rejected(&self, reason: RejectReason) {
        self.instruments.rejected_messages.get_or_create(&[("reason", reason.word())]).inc();
    }

    /// Records a committed batch: its sightings, and the time from its start to its commit.
    pub fn batch(&self, sightings: u32, took: Duration) {
        self.instruments.batch_sightings.observe(f64::from(sightings));
        self.instruments.batch_duration.observe(took.as_secs_f64());
    }

    /// Records the time from the arrival of a door message to the commit of its decision.
    pub fn lag(&self, lag: Duration) {
        self.instruments.lag.observe(lag.as_secs_f64());
    }

    /// Counts a batch that could not be committed and is tried again.
    pub fn commit_failed(&self) {
        self.instruments.commit_failures.inc();
    }

    /// Counts unrecognised devices without a failed check-in because the daily limit was reached.
    pub fn left_out(&self, devices: u64) {
        self.instruments.left_out.inc_by(devices);
    }

    /// Counts people who were refolded because one of their facts arrived late.
    pub fn decided_again(&self, people: u64) {
        self.instruments.decided_again.inc_by(people);
    }

    /// Sets the number of check-ins open at this gateway's business.
    pub fn open_checkins(&self, now: i64) {
        self.instruments.open_checkins.set(now);
    }

    /// The number of check-ins open at this gateway's business, as last set.
    pub fn open_now(&self) -> i64 {
        self.instruments.open_checkins.get()
    }

    /// Sets the number of entries waiting in a queue.
    pub fn queue_depth(&self, queue: Queue, now: i64) {
        self.instruments.queue_depth.get_or_create(&[("queue", queue.word())]).set(now);
    }

    /// Sets the number of open connections to the API.
    pub fn api_connections(&self, now: i64) {
        self.instruments.api_connections.set(now);
    }

    /// Counts a connection to the API that we cut.
    pub fn connection_cut(&self, why: ConnectionCut) {
        self.instruments.connections_cut.get_or_create(&[("reason", why.word())]).inc();
    }

    /// Counts an accepted sign-in (password or refresh token), a refused credential of any kind, or a sign-in that must
    /// wait.
    pub fn signed_in(&self, result: SignIn) {
        self.instruments.signins.get_or_create(&[("result", result.word())]).inc();
    }
}

/// The number of raised conditions of each kind, and whether they block readiness.
#[derive(Debug)]
struct Conditions(Health);

impl Collector for Conditions {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = self.0.conditions();
        let help = "Conditions raised now, by kind; /readyz has the details";
        let mut family = encoder.encode_descriptor("condition", help, None, ConstGauge::new(0i64).metric_type())?;
        for kind in ConditionKind::ALL {
            let raised = now.iter().filter(|condition| condition.kind == kind).count();
            let gauge = ConstGauge::new(i64::try_from(raised).unwrap_or(i64::MAX));
            let effect = if kind.blocks_readiness() { "blocks" } else { "warns" };
            gauge.encode(family.encode_family(&[("name", kind.name()), ("effect", effect)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{BootTime, Clock, Now, WallTime};

    fn metrics() -> (Metrics, Health) {
        let start = Now { wall: WallTime::from_millis(0), boot: BootTime::from_duration(Duration::ZERO) };
        let health = Health::new(Clock::manual(start));
        (Metrics::new(health.clone(), &["unrecognised_device", "no_valid_pass"]), health)
    }

    fn value(text: &str, series: &str) -> Option<String> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
    }

    #[test]
    fn every_metric_starts_at_zero_under_our_prefix() {
        let text = metrics().0.text(TextFormat::OpenMetrics);
        for line in text.lines().filter(|line| *line != "# EOF") {
            let name =
                ["# HELP ", "# TYPE ", "# UNIT "].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
            assert!(name.starts_with("checkind_"), "{line}");
        }
        for series in [
            "checkind_door_events_total",
            "checkind_presences_total",
            "checkind_decisions_total{outcome=\"opened\"}",
            "checkind_failed_checkins_total{code=\"no_valid_pass\"}",
            "checkind_rejected_messages_total{reason=\"unknown_topic\"}",
            "checkind_batch_sightings_count",
            "checkind_batch_duration_seconds_count",
            "checkind_commit_failures_total",
            "checkind_unrecognised_left_out_total",
            "checkind_decided_again_total",
            "checkind_open_checkins",
            "checkind_queue_depth{queue=\"deliveries\"}",
            "checkind_api_signins_total{result=\"refused\"}",
            "checkind_condition{name=\"capture_blind\",effect=\"blocks\"}",
        ] {
            assert_eq!(value(&text, series).as_deref(), Some("0"), "{series} in\n{text}");
        }
        assert!(text.contains("checkind_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn verbs_move_their_metric() {
        let (metrics, health) = metrics();
        metrics.received(3);
        metrics.presences(4);
        metrics.decided(Outcome::Opened, 1);
        metrics.failed("no_valid_pass");
        metrics.rejected(RejectReason::Empty);
        metrics.batch(17, Duration::from_millis(12));
        metrics.commit_failed();
        metrics.left_out(9);
        metrics.open_checkins(5);
        metrics.queue_depth(Queue::Presences, 2);
        metrics.signed_in(SignIn::Accepted);
        health.raise(ConditionKind::CaptureBlind, "eth1", "eth1 is down");
        health.raise(ConditionKind::CaptureBlind, "eth2", "eth2 is down");
        let text = metrics.text(TextFormat::OpenMetrics);
        for (series, expected) in [
            ("checkind_door_events_total", "3"),
            ("checkind_presences_total", "4"),
            ("checkind_decisions_total{outcome=\"opened\"}", "1"),
            ("checkind_failed_checkins_total{code=\"no_valid_pass\"}", "1"),
            ("checkind_rejected_messages_total{reason=\"empty\"}", "1"),
            ("checkind_batch_sightings_sum", "17.0"),
            ("checkind_batch_duration_seconds_bucket{le=\"0.016\"}", "1"),
            ("checkind_commit_failures_total", "1"),
            ("checkind_unrecognised_left_out_total", "9"),
            ("checkind_open_checkins", "5"),
            ("checkind_queue_depth{queue=\"presences\"}", "2"),
            ("checkind_api_signins_total{result=\"accepted\"}", "1"),
            ("checkind_condition{name=\"capture_blind\",effect=\"blocks\"}", "2"),
        ] {
            assert_eq!(value(&text, series).as_deref(), Some(expected), "{series} in\n{text}");
        }
    }

    #[test]
    fn figures_of_several_readers_share_one_description() {
        let (metrics, _) = metrics();
        for (interface, frames) in [("eth1", 7), ("eth2", 8), ("eth1", 9)] {
            let frames = Figure {
                name: "capture_frames",
                help: "Frames taken from the ring",
                value: FigureValue::Counter(frames),
            };
            let devices =
                Figure { name: "capture_devices", help: "Devices in the table", value: FigureValue::Gauge(3) };
            metrics.watch("interface", interface, Arc::new(move || vec![frames, devices]));
        }
        let text = metrics.text(TextFormat::OpenMetrics);
        assert_eq!(text.matches("# TYPE checkind_capture_frames counter").count(), 1, "{text}");
        assert_eq!(value(&text, "checkind_capture_frames_total{interface=\"eth1\"}").as_deref(), Some("9"));
        assert_eq!(value(&text, "checkind_capture_frames_total{interface=\"eth2\"}").as_deref(), Some("8"));
        assert_eq!(value(&text, "checkind_capture_devices{interface=\"eth2\"}").as_deref(), Some("3"));
    }
}
