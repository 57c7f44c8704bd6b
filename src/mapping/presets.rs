//! PURE. The mappings that we ship, each with the messages that it was made from.
//!
//! A preset is a file of `config/presets`, built into the binary: `[mapping]` is a `[[source]]` without name, and each
//! `[[sample]]` is a message with what it must become, which a test replays.

use serde::Deserialize;

use crate::mapping::fragment::MappingFragment;

/// The names that `preset` may have.
pub const NAMES: [&str; 3] = ["esp-rfid-v2", "uhppoted", "generic-json"];

/// One preset file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The mapping, without name and mostly without topics.
    pub mapping: MappingFragment,
    /// Messages with what they must become.
    #[serde(default)]
    pub sample: Vec<Sample>,
}

/// A message, and what it must become.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// What the sample shows.
    pub about: String,
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: String,
    /// Is it a retained copy?
    #[serde(default)]
    pub retained: bool,
    /// When it arrives, RFC 3339.
    pub arrived: String,
    /// The events that it must become; absent for `ignored` and `rejected` ones.
    #[serde(default)]
    pub expect: Vec<Expected>,
    /// The word of the reason why it must be rejected.
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
    /// The direction's word; `unknown` when absent.
    pub direction: Option<String>,
    /// The credential's text.
    pub card: Option<String>,
    /// The reason's word.
    pub reason: Option<String>,
    /// The event time, RFC 3339; the arrival when absent.
    pub at: Option<String>,
    /// The key, where it has an id.
    pub key: Option<String>,
}

/// The text of a preset file.
pub fn text(name: &str) -> Option<&'static str> {
    match name {
        "esp-rfid-v2" => Some(include_str!("../../config/presets/esp-rfid-v2.toml")),
        "uhppoted" => Some(include_str!("../../config/presets/uhppoted.toml")),
        "generic-json" => Some(include_str!("../../config/presets/generic-json.toml")),
        _ => None,
    }
}

/// The preset of that name.
pub fn find(name: &str) -> Option<MappingFragment> {
    text(name).map(|text| toml::from_str::<Preset>(text).expect("a test reads every preset").mapping)
}
