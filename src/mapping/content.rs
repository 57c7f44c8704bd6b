//! PURE. The result of mapping a message: sightings, nothing, or a rejection with its reason.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    base::{closed_list::closed_list, sighting::Sighting},
    mapping::limits::LARGEST_PAYLOAD,
};

/// How much of a rejected message is kept, in characters: enough to recognise it.
const SAMPLE_LENGTH: usize = 120;

/// What a message was mapped to, for the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// One or more events.
    Sightings(Vec<Sighting>),
    /// Understood, but with nothing to decide: a rule of kind `ignore`, or a retained copy that the source's policy
    /// skips.
    Ignored,
    /// Not understood: recorded, counted, acknowledged.
    Rejected(Rejection),
}

impl Content {
    /// How many outcomes it leads to: one for each sighting, or one for a rejection.
    pub fn events(&self) -> u64 {
        match self {
            Self::Sightings(sightings) => sightings.len() as u64,
            Self::Ignored => 0,
            Self::Rejected(_) => 1,
        }
    }

    /// The memory behind it, in bytes: what bounds the queues, because one message may be a thousand times as large as
    /// another.
    pub fn memory(&self) -> usize {
        match self {
            Self::Sightings(sightings) => sightings.iter().map(Sighting::memory).sum(),
            Self::Ignored => 0,
            Self::Rejected(rejection) => rejection.topic.len() + rejection.sample.len(),
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
    /// The first 120 characters of the payload, with every digit and every text value masked.
    pub sample: String,
}

closed_list! {
    /// Why a message could not become a sighting. It labels a metric, where every reason is exported, even at zero.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum RejectReason {
        /// Larger than the largest payload.
        Oversize = "oversize",
        /// No bytes, or only white space.
        Empty = "empty",
        /// Not UTF-8.
        NotUtf8 = "not_utf8",
        /// Not in the source's format, or nested too deep.
        NotInFormat = "not_in_format",
        /// A field is missing or has a wrong type.
        BadField = "bad_field",
        /// No rule of the source matches.
        NoRule = "no_rule",
        /// The payload names another door than the topic.
        OtherTopic = "other_topic",
        /// No source claims the topic.
        UnknownTopic = "unknown_topic",
        /// The message breaks MQTT, in its topic or properties; the broker should not have passed it on.
        Malformed = "malformed",
    }

    /// The word for metrics and the log of facts.
    fn word;
}

/// Builds the record of a message that could not become a sighting. It must contain nothing that identifies a person.
pub fn reject(why: RejectReason, topic: &str, payload: &[u8]) -> Rejection {
    Rejection { why, topic: topic.chars().take(SAMPLE_LENGTH).collect(), sample: masked_sample(payload) }
}

/// The shape of a payload: keys and punctuation are kept, every value and every digit is masked.
fn masked_sample(payload: &[u8]) -> String {
    let head = &payload[..payload.len().min(LARGEST_PAYLOAD)];
    let masked = match serde_json::from_slice::<Value>(head) {
        Ok(value) => masked_json(&value).to_string(),
        Err(_) => String::from_utf8_lossy(&head[..head.len().min(SAMPLE_LENGTH * 4)]).into_owned(),
    };
    let is_json = !masked.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(head).is_ok();
    let mask = |c: char| match c {
        _ if c.is_numeric() => '#',
        _ if !is_json && c.is_alphabetic() => 'x',
        _ if c.is_control() => ' ',
        _ => c,
    };
    masked.chars().take(SAMPLE_LENGTH).map(mask).collect()
}

fn masked_json(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(_) => Value::from(0),
        Value::String(_) => Value::from("…"),
        Value::Array(items) => items.iter().take(SAMPLE_LENGTH).map(masked_json).collect(),
        Value::Object(entries) => {
            entries.iter().take(SAMPLE_LENGTH).map(|(key, value)| (key.clone(), masked_json(value))).collect()
        }
    }
}
