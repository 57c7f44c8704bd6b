//! PURE. What a mapping makes of a message: events, nothing, or a rejection with its reason.

use serde::{Deserialize, Serialize};

use crate::base::sighting::Sighting;

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
