//! The figures that are read at scrape, for the captures, the broker session, the sources, the spool and the disk.

use std::sync::atomic::{AtomicU64, Ordering};

use super::watched::{Figure, FigureValue};
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
        counter(
            "capture_no_evidence",
            "ARP, DHCP and neighbour discovery frames that were not evidence",
            &counters.no_evidence,
        ),
        counter("capture_suspicious", "Frames that claim an address other than their sender's", &counters.suspicious),
        counter("capture_malformed", "Frames that break the rules of their protocol", &counters.malformed),
        counter(
            "capture_out_of_scope",
            "Frames of other VLANs, of this machine and of infrastructure",
            &counters.out_of_scope,
        ),
        counter(
            "capture_left_out",
            "Evidence of unknown devices dropped because the table was full",
            &counters.left_out,
        ),
        counter(
            "capture_kernel_drops",
            "Frames that the kernel dropped because the ring was full",
            &counters.kernel_drops,
        ),
        counter("capture_freezes", "How often the ring was full", &counters.freezes),
        gauge(
            "capture_last_frame_age_seconds",
            "Time since the last frame of any kind reached the interface, or since the start",
            read(&counters.last_frame),
        ),
    ]
}

/// The figures of the broker session.
pub fn session(counters: &MqttCounters) -> Vec<Figure> {
    let connected = u64::from(counters.connected.load(Ordering::Relaxed));
    vec![
        gauge("mqtt_connected", "1 while connected to the broker", connected),
        gauge("mqtt_topics", "Topics to subscribe to", read(&counters.topics)),
        gauge("mqtt_subscribed", "Topics for which the broker granted a subscription", read(&counters.subscribed)),
        counter("mqtt_connects", "Connections that the broker accepted", &counters.connects),
        counter("mqtt_failures", "Connection attempts that failed, and connections that ended", &counters.failures),
        counter("mqtt_messages", "Messages received", &counters.received),
        counter("mqtt_payload_bytes", "Bytes of payload received", &counters.bytes),
        counter("mqtt_redelivered", "Messages that the broker marked as delivered before", &counters.redelivered),
        Figure {
            name: "mqtt_events",
            help: "Door events sent to be decided: sightings, and messages that could not be mapped",
            value: FigureValue::Counter(counters.events()),
        },
        counter("mqtt_ignored", "Messages ignored by a rule", &counters.ignored),
        counter("mqtt_acknowledged", "Messages acknowledged", &counters.acknowledged),
        gauge("mqtt_unacknowledged", "Messages received and not yet acknowledged", read(&counters.unacknowledged)),
        gauge("mqtt_oldest_unacknowledged_seconds", "Age of the oldest unacknowledged message", read(&counters.oldest)),
        gauge(
            "mqtt_may_have_waited_seconds",
            "How long the broker may have kept a message that arrives now",
            read(&counters.waited),
        ),
        counter("mqtt_stale_receipts", "Receipts of an earlier connection that were dropped", &counters.stale),
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
            help: "How far a controller's clock that is off by a constant is ahead; negative if it is behind",
            value: FigureValue::Gauge(ahead / 1000),
        },
        counter("source_times_unreadable", "Events whose time could not be read", &counters.times_unreadable),
        counter("source_times_not_believed", "Events whose time was not trusted", &counters.times_not_believed),
        counter("source_keys_reused", "Events with a key that an earlier event had used", &counters.keys_reused),
    ]
}

/// The figures of the disk.
pub fn disk(figures: &DiskFigures) -> Vec<Figure> {
    vec![gauge("disk_free_bytes", "Free space on the disk of the database or the spool", read(&figures.free))]
}

/// The figures of the spool; all zero without one.
pub fn spool(counters: &SpoolCounters) -> Vec<Figure> {
    vec![
        gauge("spool_depth", "Messages acknowledged and not yet in the shared database", read(&counters.depth)),
        gauge("spool_bytes", "Bytes of the spool in use", read(&counters.bytes)),
        gauge("spool_limit_bytes", "Bytes that the spool may use", read(&counters.limit)),
        gauge("spool_oldest_seconds", "Age of the oldest message in the spool", read(&counters.oldest)),
        counter("spool_written", "Messages written to the spool", &counters.written),
        counter("spool_replayed", "Door events of an earlier run, sent to the pipeline again", &counters.replayed),
        counter(
            "spool_delivered_again",
            "Door events sent to the pipeline again because the shared database had lost them",
            &counters.delivered_again,
        ),
        counter("spool_failures", "Reads and writes of the spool that failed and were tried again", &counters.failures),
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
