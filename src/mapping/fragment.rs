//! PURE. One `[[source]]` as it is written, and the faults found in it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// One `[[source]]` as written. Everything that a preset gives may be absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MappingFragment {
    /// The source's name.
    pub name: String,
    /// The preset below this; see [`NAMES`](crate::mapping::presets::NAMES).
    pub preset: Option<String>,
    /// Topic filters; a level may be `{named}`.
    pub topics: Option<Vec<String>>,
    /// `json` (default), `text` (the whole payload is the value at the pointer ""), or `csv` (columns are `/0`, `/1`, …,
    /// without quoting).
    pub format: Option<String>,
    /// Pointer to the value in which the other pointers start.
    pub base: Option<String>,
    /// Pointer, from the base, to an array of events. The other pointers then start in the element, or in the base if the
    /// element has nothing there.
    pub each: Option<String>,
    /// Pointers to arrays that are read side by side, one event for each position; values that are not arrays are shared by
    /// all. The events are one tap that several relays answered: if one lets in, the refusals of the others are left out.
    /// Cannot be combined with `each`.
    pub zip: Option<Vec<String>>,
    /// Whether a retained copy counts: `ignore` (never, the default), `if_new_id` (only with an id and a trusted time),
    /// `if_fresh` (only with a trusted time of the last two minutes), `accept` (always).
    pub retained: Option<String>,
    /// Named values: one pointer, or several of which the first that is not blank counts. The names `card` and `time` have a
    /// meaning of their own; templates and conditions can use all names.
    pub field: BTreeMap<String, Pointers>,
    /// `[source.key]`.
    pub key: KeyFragment,
    /// `[source.time]`.
    pub time: TimeFragment,
    /// `[source.card]`.
    pub card: CardFragment,
    /// `[[source.rule]]`, tried in order and before those of the preset; the first that matches counts.
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
    /// The first whose names are all in the message counts.
    FirstOf(Vec<String>),
}

/// `[source.key]`: templates over named topic levels and fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyFragment {
    /// The door's key; the source's name if absent.
    pub door: Option<String>,
    /// What makes the event unique within the source. The number at its end orders events of the same instant; a time
    /// after the number is skipped.
    pub id: Option<Templates>,
}

/// `[source.time]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeFragment {
    /// `unix`, `unix_local` (a clock that was set to local time and counts as if that were UTC), `unix_ms`, `rfc3339` or
    /// `strptime` patterns; the first that fits counts.
    pub parse: Option<Vec<String>>,
    /// IANA zone for `unix_local` and for texts without an offset; the site's if absent.
    pub zone: Option<String>,
    /// Correction of the controller's clock, for example `-2h`.
    pub offset: Option<String>,
    /// How late a live message may be, and how far ahead, for its time to be trusted: `8d past` for a controller that keeps
    /// its events while it has no network. `10m past, 2m future` if neither this nor the preset sets it.
    pub trust: Option<String>,
}

/// `[source.card]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CardFragment {
    /// `card` (default), `pin`, `slot`, `user` or `name`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// How to read the text: [`CardStep`](crate::base::card::CardStep).
    pub steps: Option<Vec<String>>,
    /// Texts that stand for "nothing was presented".
    pub empty: Option<Vec<String>>,
    /// Template of the scope in which a slot, user or name means something. If absent: the source and the door
    /// (`source/door`) for a slot, the source for a user or name.
    pub scope: Option<String>,
}

/// One `[[source.rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleFragment {
    /// Conditions that must all hold. The key is a pointer, or the name of a topic level or field. The value is what it must
    /// equal, an array of which it must equal one, or a table of the tests `is`, `not`, `text` (compared as text), `exists`,
    /// `empty` and `regex`.
    pub when: BTreeMap<String, Value>,
    /// A kind of event (`granted`, `read`, `denied`, …) or `ignore`.
    pub kind: String,
    /// `in`, `out`, `unknown`, or a table that looks up the text at `direction_from`; `*` is for all others.
    pub direction: Option<Value>,
    /// Pointer or name.
    pub direction_from: Option<String>,
    /// A reason for a refusal, or a table that looks up the text at `reason_from`; `*` is for all others.
    pub reason: Option<Value>,
    /// Pointer or name.
    pub reason_from: Option<String>,
}

/// A fault of one `[[source]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFault {
    /// The keys that lead to the value inside the `[[source]]` table, arrays by index (`["rule", "2", "kind"]`).
    pub path: Vec<String>,
    /// What is wrong with it, and what would be right.
    pub message: String,
}
