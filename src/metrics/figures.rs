//! What the captures, the broker session and the spool count, as figures that are read at scrape.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Figure, FigureValue};
use crate::{
    base::disk::DiskFigures,
    source::{
        mqtt::counters::{MqttCounters, SourceCounters},
        network::CaptureCounters,
    },
    spool::SpoolCounters,
};

/// The figures of one capture.
pub fn capture(counters: &CaptureCounters) -> Vec<Figure> {
    vec![
        counter("capture_frames", "Frames that the kernel's filter let through", &counters.frames),
        counter("capture_strong", "Frames that were strong evidence", &counters.strong),
        counter("capture_weak", "Frames that were weak evidence", &counters.weak),
        counter("capture_no_evidence", "Frames of our protocols that were no evidence", &counters.no_evidence),
        counter("capture_suspicious", "Frames that speak for another address than their own", &counters.suspicious),
        counter("capture_malformed", "Frames that their protocol forbids", &counters.malformed),
        counter("capture_out_of_scope", "Frames of other VLANs, of ours and of infrastructure", &counters.out_of_scope),
        counter("capture_left_out", "Evidence of unknown devices for which there was no room", &counters.left_out),
        counter(
            "capture_kernel_drops",
            "Frames that the kernel dropped because the ring was full",
            &counters.kernel_drops,
        ),
        counter("capture_freezes", "How often the ring was full", &counters.freezes),
        gauge(
            "capture_last_frame_age_seconds",
            "Since the last frame of any kind reached the interface, or since the start",
            read(&counters.last_frame),
        ),
    ]
}

/// The figures of the broker session.
pub fn session(counters: &MqttCounters) -> Vec<Figure> {
    let connected = u64::from(counters.connected.load(Ordering::Relaxed));
    vec![
        gauge("mqtt_connected", "1 while there is a connection", connected),
        gauge("mqtt_topics", "Topics that are subscribed to", read(&counters.topics)),
        gauge("mqtt_subscribed", "Topics that the broker granted", read(&counters.subscribed)),
        counter("mqtt_connects", "Connections that the broker accepted", &counters.connects),
        counter("mqtt_failures", "Connections that failed or ended", &counters.failures),
        counter("mqtt_messages", "Messages received", &counters.received),
        counter("mqtt_payload_bytes", "Bytes of payload received", &counters.bytes),
        counter("mqtt_redelivered", "Messages that the broker marked as delivered before", &counters.redelivered),
        Figure {
            name: "mqtt_events",
            help: "Door events handed over to be decided: sightings, and messages that could not be mapped",
            value: FigureValue::Counter(counters.events()),
        },
        counter("mqtt_ignored", "Messages that a rule ignores", &counters.ignored),
        counter("mqtt_acknowledged", "Messages acknowledged", &counters.acknowledged),
        gauge("mqtt_unacknowledged", "Messages received and not acknowledged yet", read(&counters.unacknowledged)),
        gauge("mqtt_oldest_unacknowledged_seconds", "Since the oldest of them came", read(&counters.oldest)),
        gauge(
            "mqtt_may_have_waited_seconds",
            "For how long the broker may have kept a message that comes now",
            read(&counters.waited),
        ),
        counter("mqtt_stale_receipts", "Receipts of an earlier connection, dropped", &counters.stale),
        counter(
            "mqtt_dropped",
            "QoS 0 messages dropped because no more could be held, or at a reload",
            &counters.dropped,
        ),
        counter(
            "mqtt_shed",
            "QoS 1 messages left with the broker because no more could be held, or at a reload",
            &counters.shed,
        ),
        gauge("mqtt_held", "Messages held back because the queue is full", read(&counters.held)),
    ]
}

/// The figures of one `[[source]]`.
pub fn source(counters: &SourceCounters) -> Vec<Figure> {
    let ahead = counters.clock_ahead.load(Ordering::Relaxed);
    vec![
        Figure {
            name: "source_clock_ahead_seconds",
            help: "How far a controller's clock is ahead that is off by a constant; below zero for one that is behind",
            value: FigureValue::Gauge(ahead / 1000),
        },
        counter("source_times_unreadable", "Events whose time could not be read", &counters.times_unreadable),
        counter("source_times_not_believed", "Events whose time was not believed", &counters.times_not_believed),
        counter("source_keys_reused", "Events with a key that another event had before them", &counters.keys_reused),
    ]
}

/// The figures of the disk.
pub fn disk(figures: &DiskFigures) -> Vec<Figure> {
    vec![gauge("disk_free_bytes", "Room on the disk of the database, or of the spool", read(&figures.free))]
}

/// The figures of the spool; all zero where there is none.
pub fn spool(counters: &SpoolCounters) -> Vec<Figure> {
    vec![
        gauge("spool_depth", "Messages acknowledged and not yet in the shared database", read(&counters.depth)),
        gauge("spool_bytes", "Bytes of the spool in use", read(&counters.bytes)),
        gauge("spool_limit_bytes", "Bytes of the spool that may be in use", read(&counters.limit)),
        gauge("spool_oldest_seconds", "Age of the oldest message in the spool", read(&counters.oldest)),
        counter("spool_written", "Messages written to the spool", &counters.written),
        counter("spool_replayed", "Door events of an earlier run, handed over again", &counters.replayed),
        counter("spool_failures", "Writes and reads of the spool that failed and were tried again", &counters.failures),
    ]
}

fn counter(name: &'static str, help: &'static str, value: &AtomicU64) -> Figure {
    Figure { name, help, value: FigureValue::Counter(read(value)) }
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Figure {
    Figure { name, help, value: FigureValue::Gauge(i64::try_from(value).unwrap_or(i64::MAX)) }
}

fn read(value: &AtomicU64) -> u64 {
    value.load(Ordering::Relaxed)
}
