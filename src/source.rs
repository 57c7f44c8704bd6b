//! What a source owes the rest of the daemon: sightings with receipts, through bounded queues, and no decisions.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::sighting::{Presence, Sighting};

pub mod mqtt;
pub mod network;

/// The queue of door messages between the broker session and the pipeline, in messages.
///
/// Two of the largest batches: while one commits, the next is there. When it is full the session holds a few more and then
/// stops reading, so that the broker keeps the rest.
pub const DELIVERIES: usize = 2048;

/// The queue of coalesced presences between the captures and the pipeline, in hand-overs (each a list of devices).
///
/// When it is full the capture goes on merging into the same entries, so nothing but repetition is lost.
pub const PRESENCES: usize = 16;

/// One message from a controller: what it said, and the right to acknowledge it.
#[derive(Debug)]
pub struct Delivery {
    /// The `[[source]]` that the topic belongs to; the session's own name for a topic that no source claims.
    pub source: Arc<str>,
    /// What the mapping made of it.
    pub content: Content,
    /// Spent once the decision is durable.
    pub receipt: Receipt,
}

/// What the mapping made of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// One or more events.
    Sightings(Vec<Sighting>),
    /// Understood, and nothing to decide (a rule of kind `ignore`, or a retained copy that the source's policy skips).
    Ignored,
    /// Not understood: recorded, counted, acknowledged.
    Rejected(Rejection),
}

impl Content {
    /// How many events it is that each end in one outcome.
    pub fn events(&self) -> u64 {
        match self {
            Self::Sightings(sightings) => sightings.len() as u64,
            Self::Ignored => 0,
            Self::Rejected(_) => 1,
        }
    }
}

/// A message that could not become a sighting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Why.
    pub why: RejectReason,
    /// The topic, cut to 120 characters.
    pub topic: String,
    /// The first 120 characters of the payload, every digit and every text value masked.
    pub sample: String,
}

/// Why a message could not become a sighting. A closed list: it labels a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Larger than the packet limit.
    Oversize,
    /// No bytes.
    Empty,
    /// Not UTF-8.
    NotUtf8,
    /// Not in the source's format, or nested too deep.
    NotInFormat,
    /// A field is missing or has a wrong type.
    BadField,
    /// No rule of the source matches.
    NoRule,
    /// The payload speaks for another door than the topic.
    OtherTopic,
    /// No source claims the topic.
    UnknownTopic,
}

impl RejectReason {
    /// Every reason, so that each counter is present at zero.
    pub const ALL: [Self; 8] = [
        Self::Oversize,
        Self::Empty,
        Self::NotUtf8,
        Self::NotInFormat,
        Self::BadField,
        Self::NoRule,
        Self::OtherTopic,
        Self::UnknownTopic,
    ];

    /// The word for metrics and the sighting log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Empty => "empty",
            Self::NotUtf8 => "not_utf8",
            Self::NotInFormat => "not_in_format",
            Self::BadField => "bad_field",
            Self::NoRule => "no_rule",
            Self::OtherTopic => "other_topic",
            Self::UnknownTopic => "unknown_topic",
        }
    }
}

/// The devices that one capture hands over together.
pub type Presences = Vec<Presence>;

/// The right to acknowledge one delivery, spent once, after the commit of its decision.
///
/// Dropped unspent, the broker delivers again.
pub struct Receipt(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Receipt {
    /// A receipt that does `acknowledge` when it is spent. `acknowledge` must not block.
    pub fn new(acknowledge: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(acknowledge)))
    }

    /// For a delivery that needs no acknowledgement (QoS 0).
    pub const fn none() -> Self {
        Self(None)
    }

    /// Is there anything to acknowledge?
    pub const fn acknowledges(&self) -> bool {
        self.0.is_some()
    }

    /// Acknowledges. Receipts are spent in the order in which their messages arrived (MQTT 5, 4.6.0-2).
    pub fn spend(self) {
        if let Some(acknowledge) = self.0 {
            acknowledge();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Receipt" } else { "Receipt(none)" })
    }
}
