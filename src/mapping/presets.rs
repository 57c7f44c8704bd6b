//! PURE. The mappings that we ship, each with sample messages.
//!
//! A preset is a file of `config/presets`, built into the binary. `[mapping]` is a `[[source]]` without a name; each
//! `[[sample]]` is a message with the events that it must become. A test replays the samples.

use serde::Deserialize;

use crate::mapping::fragment::MappingFragment;

/// Declares the presets. A preset has the name of its file.
macro_rules! presets {
    ($($name:literal,)+) => {
        /// The names that `preset` may have.
        pub const NAMES: [&str; [$($name),+].len()] = [$($name),+];

        /// The text of a preset file.
        pub fn text(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../../config/presets/", $name, ".toml"))),)+
                _ => None,
            }
        }
    };
}

presets! {
    "esp-rfid-v2",
    "uhppoted",
    "generic-json",
}

/// One preset file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The mapping, without a name and usually without topics.
    pub mapping: MappingFragment,
    /// Messages, with the events that they must become.
    #[serde(default)]
    pub sample: Vec<Sample>,
}

/// A message, with the events that it must become.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// What the sample shows.
    pub about: String,
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: String,
    /// Whether it is a retained copy.
    #[serde(default)]
    pub retained: bool,
    /// When it arrives, RFC 3339.
    pub arrived: String,
    /// The events that it must become; empty if it must be ignored or rejected.
    #[serde(default)]
    pub expect: Vec<Expected>,
    /// The word for the reason, if it must be rejected.
    pub rejected: Option<String>,
}

/// One event that a sample must become.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The kind's word.
    pub kind: String,
    /// The door's key.
    pub door: String,
    /// The direction's word; `unknown` if absent.
    pub direction: Option<String>,
    /// The credential's text.
    pub card: Option<String>,
    /// The reason's word.
    pub reason: Option<String>,
    /// The event time, RFC 3339; the arrival if absent.
    pub at: Option<String>,
    /// The key, if the event has an id.
    pub key: Option<String>,
}

/// The preset of that name.
pub fn find(name: &str) -> Option<MappingFragment> {
    text(name).map(|text| toml::from_str::<Preset>(text).expect("a test reads every preset").mapping)
}
