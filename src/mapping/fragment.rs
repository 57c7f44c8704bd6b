//! PURE. One `[[source]]` as written, and the faults found in it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// One `[[source]]` as written. Everything that the preset provides may be absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MappingFragment {
    /// The source's name.
    pub name: String,
    /// The preset that this overlays; see [`NAMES`](crate::mapping::presets::NAMES).
    pub preset: Option<String>,
    /// Topic filters; a level may be `{named}`.
    pub topics: Option<Vec<String>>,
    /// `json` (default), `text` (the whole payload is the value at the pointer ""), or `csv` (columns are `/0`, `/1`,
    /// …, without quoting).
    pub format: Option<String>,
    /// Pointer to the value to which the other pointers are relative.
    pub base: Option<String>,
    /// Pointer, relative to the base, to an array of events. The other pointers are then relative to the element, or to
    /// the base if the element has nothing there.
    pub each: Option<String>,
    /// Pointers to arrays that are read in parallel, one event for each position; values that are not arrays are shared
    /// by all. The events are one tap that several relays answered: if one grants access, the refusals of the others
    /// are dropped. Cannot be combined with `each`.
    pub zip: Option<Vec<String>>,
    /// Whether a retained copy counts: `ignore` (never, the default), `if_new_id` (only with an id and a trusted time),
    /// `if_fresh` (only with a trusted time of the last two minutes), `accept` (always).
    pub retained: Option<String>,
    /// Named values: one pointer, or several, and the first value that is not blank counts. The names `card` and `time`
    /// have a special meaning; templates and conditions can use all names.
    pub field: BTreeMap<String, Pointers>,
    /// `[source.key]`.
    pub key: KeyFragment,
    /// `[source.time]`.
    pub time: TimeFragment,
    /// `[source.card]`.
    pub card: CardFragment,
    /// `[[source.rule]]`, tried in order, before the preset's rules; the first that matches counts.
    pub rule: Vec<RuleFragment>,
}

/// One pointer or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Pointers {
    /// One.
    One(String),
    /// The first that is not blank counts.
    FirstOf(Vec<String>),
}

/// One template or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Templates {
    /// One.
    One(String),
    /// The first one with all its names in the message counts.
    FirstOf(Vec<String>),
}

/// `[source.key]`: templates over named topic levels and fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyFragment {
    /// The door's key; the source's name if absent.
    pub door: Option<String>,
    /// Identifies the event uniquely within the source. The number at its end orders events of the same instant; a time
    /// after the number is skipped.
    pub id: Option<Templates>,
}

/// `[source.time]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeFragment {
    /// `unix`, `unix_local` (from a clock that was set to local time and treats it as UTC), `unix_ms`, `rfc3339` or
    /// `strptime` patterns; the first that fits counts.
    pub parse: Option<Vec<String>>,
    /// IANA zone for `unix_local` and for texts without an offset; the site's if absent.
    pub zone: Option<String>,
    /// Correction of the controller's clock, for example `-2h`.
    pub offset: Option<String>,
    /// How late a live message may be, and how far ahead, for its time to be trusted: `8d past` for a controller that
    /// buffers its events while it has no network. If neither this nor the preset sets it, `10m past, 2m future`.
    pub trust: Option<String>,
}

/// `[source.card]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CardFragment {
    /// `card` (default), `pin`, `slot`, `user`, `name` or `device` (a MAC address).
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// How to read the text; see [`CardStep`](crate::base::card::CardStep).
    pub steps: Option<Vec<String>>,
    /// Texts that mean "nothing was presented".
    pub empty: Option<Vec<String>>,
    /// Template of the scope in which a slot, user or name is unique. If absent: the source and the door
    /// (`source/door`) for a slot, the source for a user or name.
    pub scope: Option<String>,
}

/// One `[[source.rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleFragment {
    /// Conditions that must all hold. The key is a pointer, or the name of a topic level or field. The value is what
    /// must be there, an array of alternatives, or a table of the tests `is`, `not`, `text` (compared as text),
    /// `exists`, `empty` and `regex`.
    pub when: BTreeMap<String, Value>,
    /// A kind of event (`granted`, `read`, `denied`, …) or `ignore`.
    pub kind: String,
    /// `in`, `out`, `unknown`, or a table in which to look up the text at `direction_from`; `*` is for all others.
    pub direction: Option<Value>,
    /// Pointer or name.
    pub direction_from: Option<String>,
    /// A reason for a refusal, or a table in which to look up the text at `reason_from`; `*` is for all others.
    pub reason: Option<Value>,
    /// Pointer or name.
    pub reason_from: Option<String>,
}

/// A fault of one `[[source]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFault {
    /// The keys that lead to the value inside the `[[source]]` table, with indexes for arrays (`["rule", "2",
    /// "kind"]`).
    pub path: Vec<String>,
    /// What is wrong with it, and what would be right.
    pub message: String,
}
