//! Figures that other parts keep as atomics, read at scrape.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// One figure that is read at scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// In snake case with the unit, without the prefix `checkind_` and the suffix `_total`: `capture_frames`.
    pub name: &'static str,
    /// One sentence without its full stop. If figures of one name differ, the first is used.
    pub help: &'static str,
    /// The value now.
    pub value: FigureValue,
}

/// A figure's value by its type. All figures of one name have the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureValue {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(i64),
}

/// Reads the current figures. Called at each scrape, so it must not block.
pub type FigureReader = Arc<dyn Fn() -> Vec<Figure> + Send + Sync>;

/// The readers, by label.
type Readers = BTreeMap<(&'static str, String), FigureReader>;

/// The registered readers.
#[derive(Clone, Default)]
pub(super) struct Watched(Arc<Mutex<Readers>>);

/// All values of one name, with their labels.
struct Series {
    help: &'static str,
    values: Vec<(&'static str, String, FigureValue)>,
}

impl Watched {
    /// Adds a reader, replacing an earlier one with the same label.
    pub(super) fn add(&self, label: &'static str, value: &str, read: FigureReader) {
        self.readers().insert((label, value.to_owned()), read);
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All figures by name: the text describes each name once, however many readers have it.
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
