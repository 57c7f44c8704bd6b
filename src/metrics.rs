//! Every metric of the program, in one struct; `/metrics` prints them for Prometheus.
//!
//! Each is registered here, at zero, with its unit in its name. Labels come from closed lists or from the settings
//! (interfaces, sources); no person, card or address is ever one. Figures that live elsewhere as atomics are read at
//! scrape, see [`Metrics::watch`].

pub mod figures;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::{
    base::health::{ConditionKind, Health},
    engine::decision::Outcome,
    mapping::content::RejectReason,
};

/// The content type of [`Metrics::text`] (OpenMetrics 1.0, which Prometheus reads).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper ends of the batch sizes: powers of four up to the largest batch.
const BATCH_BUCKETS: (f64, f64, u16) = (1.0, 4.0, 7);

/// Upper ends of the batch durations in seconds: 1 ms to 8 s, doubling; a batch on a good disk takes some 10 ms.
const SECONDS_BUCKETS: (f64, f64, u16) = (0.001, 2.0, 14);

/// Upper ends of the lag in seconds: 1 ms to 73 hours, times four; a database may be away for a day.
const LAG_BUCKETS: (f64, f64, u16) = (0.001, 4.0, 15);

type Label = [(&'static str, &'static str); 1];

/// A queue between two parts of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Queue {
    /// Door messages from the broker session to the pipeline, in messages.
    Deliveries,
    /// Coalesced presences from the captures to the pipeline, in hand-overs.
    Presences,
}

impl Queue {
    /// Every queue, so that each gauge is present at zero.
    pub const ALL: [Self; 2] = [Self::Deliveries, Self::Presences];

    /// The label's value.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deliveries => "deliveries",
            Self::Presences => "presences",
        }
    }
}

/// One figure that is read at scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Snake case, with the unit, without the `checkind_` in front and the `_total` behind: `capture_frames`.
    pub name: &'static str,
    /// One sentence without its full stop. The first one given for a name counts.
    pub help: &'static str,
    /// The value now.
    pub value: FigureValue,
}

/// What a figure's value does over time. All figures of one name are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureValue {
    /// It only grows.
    Counter(u64),
    /// It comes and goes.
    Gauge(i64),
}

/// Reads figures now; called at each scrape, must not block.
pub type FigureReader = Arc<dyn Fn() -> Vec<Figure> + Send + Sync>;

/// Every metric of the program; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    watched: Watched,
    door_events: Counter,
    presences: Counter,
    decisions: Family<Label, Counter>,
    failed_checkins: Family<Label, Counter>,
    rejected_messages: Family<Label, Counter>,
    batch_sightings: Histogram,
    batch_duration: Histogram,
    lag: Histogram,
    commit_failures: Counter,
    left_out: Counter,
    decided_again: Counter,
    open_checkins: Gauge,
    queue_depth: Family<Label, Gauge>,
    signins: Family<Label, Counter>,
}

impl Metrics {
    /// Registers everything at zero. `codes` are the reasons of failed check-ins, which label one metric; conditions
    /// are read from `health` at scrape.
    pub fn new(health: Health, codes: &[&'static str]) -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            watched: Watched::default(),
            door_events: Counter::default(),
            presences: Counter::default(),
            decisions: at_zero("outcome", Outcome::ALL.map(Outcome::word)),
            failed_checkins: at_zero("code", codes.iter().copied()),
            rejected_messages: at_zero("reason", RejectReason::ALL.map(RejectReason::word)),
            batch_sightings: Histogram::new(buckets(BATCH_BUCKETS)),
            batch_duration: Histogram::new(buckets(SECONDS_BUCKETS)),
            lag: Histogram::new(buckets(LAG_BUCKETS)),
            commit_failures: Counter::default(),
            left_out: Counter::default(),
            decided_again: Counter::default(),
            open_checkins: Gauge::default(),
            queue_depth: at_zero("queue", Queue::ALL.map(Queue::word)),
            signins: at_zero("result", SignIn::ALL.map(SignIn::word)),
        };
        metrics.registry = Arc::new(metrics.registered(health));
        metrics
    }

    /// All metrics as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a String takes everything");
        out
    }

    /// Has figures read at each scrape under one label (`interface="eth1"`). A second reader for the same label
    /// replaces the first, so that a part that is started again does not count twice.
    pub fn watch(&self, label: &'static str, value: &str, read: FigureReader) {
        self.watched.readers().insert((label, value.to_owned()), read);
    }

    /// Door events came from the broker.
    pub fn received(&self, events: u64) {
        self.door_events.inc_by(events);
    }

    /// Presences came from the captures.
    pub fn presences(&self, presences: u64) {
        self.presences.inc_by(presences);
    }

    /// So many sightings were decided, and the decisions are durable.
    pub fn decided(&self, outcome: Outcome, sightings: u64) {
        self.decisions.get_or_create(&[("outcome", outcome.word())]).inc_by(sightings);
    }

    /// A failed check-in was written, for the reason with this code.
    pub fn failed(&self, code: &'static str) {
        self.failed_checkins.get_or_create(&[("code", code)]).inc();
    }

    /// A message could not be mapped.
    pub fn rejected(&self, reason: RejectReason) {
        self.rejected_messages.get_or_create(&[("reason", reason.word())]).inc();
    }

    /// A batch of this many sightings was committed, this long after it was begun.
    pub fn batch(&self, sightings: u32, took: Duration) {
        self.batch_sightings.observe(f64::from(sightings));
        self.batch_duration.observe(took.as_secs_f64());
    }

    /// The decision on a door message was committed, so long after the message came.
    pub fn lag(&self, lag: Duration) {
        self.lag.observe(lag.as_secs_f64());
    }

    /// A batch was not committed, and is tried again.
    pub fn commit_failed(&self) {
        self.commit_failures.inc();
    }

    /// Unrecognised devices for which no failed check-in was written, because the day's bound was reached.
    pub fn left_out(&self, devices: u64) {
        self.left_out.inc_by(devices);
    }

    /// So many people's sightings were decided again, because something of theirs came late.
    pub fn decided_again(&self, people: u64) {
        self.decided_again.inc_by(people);
    }

    /// So many check-ins are open at this gateway's business.
    pub fn open_checkins(&self, now: i64) {
        self.open_checkins.set(now);
    }

    /// How many check-ins are open at this gateway's business, as last told.
    pub fn open_now(&self) -> i64 {
        self.open_checkins.get()
    }

    /// So many entries wait in a queue.
    pub fn queue_depth(&self, queue: Queue, now: i64) {
        self.queue_depth.get_or_create(&[("queue", queue.word())]).set(now);
    }

    /// A sign-in was accepted (a password, or a refresh token), or a credential of any kind was refused.
    pub fn signed_in(&self, result: SignIn) {
        self.signins.get_or_create(&[("result", result.word())]).inc();
    }

    fn registered(&self, health: Health) -> Registry {
        let mut all = Registry::with_prefix("checkind");
        all.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        all.register("door_events", "Door events received from the broker", self.door_events.clone());
        all.register("presences", "Device presences received from the captures", self.presences.clone());
        all.register("decisions", "Sightings decided, by what became of them", self.decisions.clone());
        all.register("failed_checkins", "Failed check-ins written, by reason", self.failed_checkins.clone());
        all.register(
            "rejected_messages",
            "Messages that could not be mapped, by reason",
            self.rejected_messages.clone(),
        );
        all.register("batch_sightings", "Sightings per committed batch", self.batch_sightings.clone());
        let duration = self.batch_duration.clone();
        all.register_with_unit("batch_duration", "From the start of a batch to its commit", Unit::Seconds, duration);
        let lag = "From the arrival of a door message to the commit of its decision";
        all.register_with_unit("lag", lag, Unit::Seconds, self.lag.clone());
        all.register(
            "commit_failures",
            "Batches that were not committed and are tried again",
            self.commit_failures.clone(),
        );
        let left_out = "Unrecognised devices left out of the failed check-ins, the day's bound being reached";
        all.register("unrecognised_left_out", left_out, self.left_out.clone());
        let again = "People whose sightings were decided again, because something of theirs came late";
        all.register("decided_again", again, self.decided_again.clone());
        all.register("open_checkins", "Check-ins open at this gateway's business", self.open_checkins.clone());
        all.register("queue_depth", "Entries waiting in a queue", self.queue_depth.clone());
        all.register(
            "api_signins",
            "Sign-ins accepted, and credentials of any kind refused, by the API",
            self.signins.clone(),
        );
        all.register_collector(Box::new(Conditions(health)));
        all.register_collector(Box::new(self.watched.clone()));
        all
    }
}

/// What became of a credential that was shown to the API. A closed list: it labels a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignIn {
    /// It was good.
    Accepted,
    /// It was not.
    Refused,
}

impl SignIn {
    /// Every result, so that each counter is present at zero.
    pub const ALL: [Self; 2] = [Self::Accepted, Self::Refused];

    /// The label's value.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

fn at_zero<M>(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Family<Label, M>
where
    M: Default + Clone,
{
    let family = Family::<Label, M>::default();
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
    family
}

fn buckets((first, factor, count): (f64, f64, u16)) -> impl Iterator<Item = f64> {
    exponential_buckets(first, factor, count)
}

/// How many conditions of each kind there are now.
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
            gauge.encode(family.encode_family(&[("name", kind.name())])?)?;
        }
        Ok(())
    }
}

/// The readers of figures that live elsewhere, by label.
#[derive(Clone, Default)]
struct Watched(Arc<Mutex<BTreeMap<(&'static str, String), FigureReader>>>);

/// All values of one name, with their labels.
struct Series {
    help: &'static str,
    values: Vec<(&'static str, String, FigureValue)>,
}

impl Watched {
    fn readers(&self) -> std::sync::MutexGuard<'_, BTreeMap<(&'static str, String), FigureReader>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name is described once in the text, however many readers have it.
    fn by_name(&self) -> BTreeMap<&'static str, Series> {
        let mut series = BTreeMap::<_, Series>::new();
        for ((label, value), read) in self.readers().iter() {
            for figure in read() {
                let entry = series.entry(figure.name).or_insert(Series { help: figure.help, values: Vec::new() });
                entry.values.push((label, value.clone(), figure.value));
            }
        }
        series
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.readers().keys()).finish()
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for (name, series) in self.by_name() {
            let kind = match series.values.first() {
                Some((_, _, FigureValue::Counter(_))) => ConstCounter::new(0u64).metric_type(),
                Some((_, _, FigureValue::Gauge(_))) => ConstGauge::new(0i64).metric_type(),
                None => continue,
            };
            let help = format!("{}.", series.help);
            let mut family = encoder.encode_descriptor(name, &help, None, kind)?;
            for (label, value, figure) in series.values {
                let labels = [(label, value)];
                let one = family.encode_family(&labels)?;
                match figure {
                    FigureValue::Counter(value) => ConstCounter::new(value).encode(one)?,
                    FigureValue::Gauge(value) => ConstGauge::new(value).encode(one)?,
                }
            }
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
    fn everything_is_there_at_zero_under_our_prefix() {
        let text = metrics().0.text();
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
            "checkind_condition{name=\"capture_blind\"}",
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
        let text = metrics.text();
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
            ("checkind_condition{name=\"capture_blind\"}", "2"),
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
        let text = metrics.text();
        assert_eq!(text.matches("# TYPE checkind_capture_frames counter").count(), 1, "{text}");
        assert_eq!(value(&text, "checkind_capture_frames_total{interface=\"eth1\"}").as_deref(), Some("9"));
        assert_eq!(value(&text, "checkind_capture_frames_total{interface=\"eth2\"}").as_deref(), Some("8"));
        assert_eq!(value(&text, "checkind_capture_devices{interface=\"eth2\"}").as_deref(), Some("3"));
    }
}
