//! PURE. Topic and payload to sightings, by rules that are data.
//!
//! A `[[source]]` is written as a [`MappingFragment`], put on its preset and checked by [`Mapping::compile`], and then
//! applied to each message by [`Mapping::map`]. Nothing here keeps state: the same message maps to the same sightings
//! with the same keys, so that a message which is delivered again changes nothing.
//!
//! **Keys.** `<source>/<id>` where `key.id` names fields that the message has; of several ids the first of which it has
//! everything. The event time belongs to it, because controllers restart their numbers. Else `<source>/` and a SHA-256
//! digest of topic, credential, door, kind, direction, reason and event time, when that time is the controller's own. Else
//! the arrival, rounded to half the debounce window, takes the place of the event time. The session gives a copy the arrival
//! of the first (`source::mqtt::session_state`), so such a message counts twice only if the daemon dies between commit and
//! acknowledgement and the copy comes after the window.
//! Sources with ids or clocks are better.
//!
//! Never here: what a sighting means for a check-in (`engine`), who owns a credential (`directory`).

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::topic::TopicPattern;
use crate::{
    base::{
        card::{self, CardStep, LONGEST_CREDENTIAL},
        clock::{Now, WallTime},
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Refusal, Sighting, SightingKey,
            TimeQuality,
        },
        zone::Zone,
    },
    mapping::content::{Content, RejectReason, Rejection},
};
use time::TimePlan;
pub use time::{ClockReading, Writing};

mod compile;
pub mod content;
pub mod presets;
mod time;
pub mod topic;

/// The largest payload, in bytes; also announced to the broker as the largest packet. A door event has some hundred
/// bytes, one with a picture some ten thousand. A larger one is rejected as `oversize`.
pub const LARGEST_PAYLOAD: usize = 256 * 1024;

/// How many events one message may carry; the longest list that a known controller sends has five. A message with more
/// is rejected as a bad field.
pub const MOST_EVENTS: usize = 64;

/// The longest text of one field, in characters; door names and ids are far shorter. A longer one is a bad field.
pub const LONGEST_TEXT: usize = 256;

/// The field that says whose credential it was.
const CARD: &str = "card";

/// How much of a rejected message is kept, in characters: enough to recognise it.
const SAMPLE: usize = 120;

/// The debounce window before [`Mapping::at_site`] puts the site's in.
const DEBOUNCE: Duration = Duration::from_secs(5);

/// How old a retained event may be under `retained = "if_fresh"`: it happened while we were just reconnecting.
const FRESH: Duration = Duration::from_secs(120);

/// One `[[source]]` as written; everything a preset gives may be absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MappingFragment {
    /// The source's name.
    pub name: String,
    /// The preset that this is put on; see [`presets::NAMES`].
    pub preset: Option<String>,
    /// Topic filters; a level may be `{named}`.
    pub topics: Option<Vec<String>>,
    /// `json` (default), `text` (the whole payload is the value at the pointer ""), or `csv` (columns are `/0`, `/1`, …;
    /// no quoting).
    pub format: Option<String>,
    /// Pointer to the object in which the other pointers start.
    pub base: Option<String>,
    /// Pointer, from the base, to an array of events. Pointers then start in the element, and in the base where the
    /// element has nothing there.
    pub each: Option<String>,
    /// Pointers to arrays that are read side by side, one event for each position; values that are no arrays stay. It is
    /// one tap that several relays answer, so where one of them lets in, those that do not are left out. Not together
    /// with `each`.
    pub zip: Option<Vec<String>>,
    /// What a retained copy is worth: `ignore` (default), `if_new_id` (only with an id and a trusted time), `if_fresh`
    /// (only with a trusted time of the last two minutes), `accept`.
    pub retained: Option<String>,
    /// Named values: one pointer, or several of which the first that is not blank counts. `card` and `time` are used by
    /// these names; all can be used in templates and conditions.
    pub field: BTreeMap<String, Pointers>,
    /// `[source.key]`.
    pub key: KeyFragment,
    /// `[source.time]`.
    pub time: TimeFragment,
    /// `[source.card]`.
    pub card: CardFragment,
    /// `[[source.rule]]`, tried in order before those of the preset; the first that matches counts.
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
    /// The first of which the message has every name counts.
    FirstOf(Vec<String>),
}

/// `[source.key]`: templates over named topic levels and fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyFragment {
    /// The door's key; the source's name when absent.
    pub door: Option<String>,
    /// What makes the event unique inside the source. The number at its end tells the order of events of one
    /// instant; a time behind it is passed over.
    pub id: Option<Templates>,
}

/// `[source.time]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeFragment {
    /// `unix`, `unix_local` (a clock set to local time that counts as if it were UTC), `unix_ms`, `rfc3339` or `strptime`
    /// patterns; the first that fits counts.
    pub parse: Option<Vec<String>>,
    /// IANA zone for `unix_local` and for texts without an offset; the site's when absent.
    pub zone: Option<String>,
    /// Correction of the controller's clock, for example `-2h`.
    pub offset: Option<String>,
    /// How late a live message may be, and how far ahead, for its time to be believed: `10m past, 2m future` where neither
    /// this nor the preset says it, `8d past` for a controller that keeps its events while it has no network.
    pub trust: Option<String>,
}

/// `[source.card]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CardFragment {
    /// `card` (default), `pin`, `slot`, `user` or `name`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// How the text is read: [`CardStep`].
    pub steps: Option<Vec<String>>,
    /// Texts that stand for "nothing was presented".
    pub empty: Option<Vec<String>>,
    /// Template of the scope in which a slot, user or name means something. When absent: of a slot the source and the door
    /// (`source/door`), of a user or name the source.
    pub scope: Option<String>,
}

/// One `[[source.rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleFragment {
    /// Conditions that must all hold. The key is a pointer, or the name of a topic level or field. The value is what it
    /// must equal, an array of which it must equal one, or a table of `is`, `not`, `text` (compared as text),
    /// `exists`, `empty` and `regex`.
    pub when: BTreeMap<String, Value>,
    /// A kind of event (`granted`, `read`, `denied`, …) or `ignore`.
    pub kind: String,
    /// `in`, `out`, `unknown`, or a table from the text at `direction_from`; `*` is for all others.
    pub direction: Option<Value>,
    /// Pointer or name.
    pub direction_from: Option<String>,
    /// A reason of refusal, or a table from the text at `reason_from`; `*` is for all others.
    pub reason: Option<Value>,
    /// Pointer or name.
    pub reason_from: Option<String>,
}

/// A fault of one `[[source]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFault {
    /// The keys that lead to the value inside the `[[source]]` table, arrays by index (`["rule", "2", "kind"]`).
    pub path: Vec<String>,
    /// What is wrong with it and what would be right.
    pub message: String,
}

/// A compiled `[[source]]`.
#[derive(Debug)]
pub struct Mapping {
    /// The source's name.
    pub name: Arc<str>,
    topics: Vec<TopicPattern>,
    format: PayloadFormat,
    base: String,
    each: Option<String>,
    zip: Vec<String>,
    retained: Retained,
    fields: BTreeMap<String, Vec<String>>,
    door: Option<Template>,
    id: Vec<Template>,
    /// Names that topic and payload both have: the payload must say what the topic says.
    bound: Vec<String>,
    time: TimePlan,
    card: CardPlan,
    rules: Vec<Rule>,
    debounce: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PayloadFormat {
    Json,
    Text,
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retained {
    Ignore,
    IfNewId,
    IfFresh,
    Accept,
}

#[derive(Debug)]
struct CardPlan {
    kind: CredentialKind,
    steps: Vec<CardStep>,
    empty: Vec<String>,
    scope: Option<Template>,
}

#[derive(Debug)]
struct Rule {
    when: Vec<RuleCondition>,
    /// None for `ignore`.
    kind: Option<DoorEventKind>,
    direction: Choice<Direction>,
    refusal: Option<Choice<Refusal>>,
}

/// A fixed word, or one chosen by what the message says.
#[derive(Debug)]
enum Choice<T> {
    Always(T),
    By { place: FieldPlace, words: BTreeMap<String, T>, other: Option<T> },
}

#[derive(Debug)]
struct RuleCondition {
    place: FieldPlace,
    tests: Vec<Test>,
}

#[derive(Debug)]
enum FieldPlace {
    Pointer(String),
    Name(String),
}

#[derive(Debug)]
enum Test {
    Is(Vec<Value>),
    Not(Vec<Value>),
    Text(Vec<String>),
    Exists(bool),
    Empty(bool),
    Regex(Regex),
}

/// Text with `{names}`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<TemplatePart>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    Text(String),
    Name(String),
}

/// What came with the message besides topic and payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The broker kept this copy and sent it because we subscribed; it says nothing about now.
    pub retained: bool,
    /// How long it may have waited at the broker for us at most.
    pub waited: Duration,
}

/// What a message comes to.
#[derive(Debug)]
pub struct Mapped {
    /// For the pipeline.
    pub content: Content,
    /// What the controller's clock said of each of its sightings.
    pub clocks: Vec<ClockReading>,
}

impl Mapping {
    /// Puts the fragment on top of its preset and checks every part; all faults at once.
    pub fn compile(fragment: &MappingFragment) -> Result<Self, Vec<MappingFault>> {
        compile::compile(fragment)
    }

    /// The zone that the source names for times without an offset, by other rules.
    #[must_use]
    pub fn in_zone(mut self, find: impl FnOnce(&str) -> Option<Zone>) -> Self {
        self.time.zone = self.time.zone.map(|zone| find(zone.name()).unwrap_or(zone));
        self
    }

    /// How late a live message of this source may be and have its time believed.
    pub const fn lateness(&self) -> Duration {
        self.time.lateness()
    }

    /// What to write in the settings, or to do, when the clock of a controller of this source is so many milliseconds ahead.
    pub fn clock_advice(&self, ahead: (i64, Writing), now: WallTime) -> String {
        self.time.advice(ahead, now)
    }

    /// The window in which the same card at the same door is one sighting.
    pub const fn debounce(&self) -> Duration {
        self.debounce
    }

    /// Takes over what the site knows: the zone for times without an offset, unless the source names one, and the
    /// debounce window, which goes into the keys of messages without id and time.
    #[must_use]
    pub fn at_site(mut self, zone: &Zone, debounce: Duration) -> Self {
        self.time.zone.get_or_insert_with(|| zone.clone());
        self.debounce = debounce;
        self
    }

    /// The filters to subscribe to.
    pub fn filters(&self) -> impl Iterator<Item = String> {
        self.topics.iter().map(TopicPattern::filter)
    }

    /// Does the topic belong to this source?
    pub fn claims(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic).is_some())
    }

    /// What a message says. Never fails: what cannot be understood becomes [`Content::Rejected`].
    ///
    /// When a list has good and bad entries, the good ones count; a message of which nothing is good is rejected with the
    /// first reason.
    pub fn map(&self, topic: &str, payload: &[u8], meta: Meta, arrived: Now) -> Mapped {
        let said = match self.try_map(topic, payload, meta, arrived) {
            Ok(said) => said,
            Err(why) => {
                return Mapped { content: Content::Rejected(reject(why, topic, payload)), clocks: Vec::new() };
            }
        };
        let (sightings, clocks): (Vec<Sighting>, Vec<ClockReading>) = said.into_iter().unzip();
        let content = if sightings.is_empty() { Content::Ignored } else { Content::Sightings(sightings) };
        Mapped { content, clocks }
    }

    fn try_map(
        &self,
        topic: &str,
        payload: &[u8],
        meta: Meta,
        arrived: Now,
    ) -> Result<Vec<(Sighting, ClockReading)>, RejectReason> {
        let levels = self.topics.iter().find_map(|pattern| pattern.matches(topic)).ok_or(RejectReason::UnknownTopic)?;
        if meta.retained && self.retained == Retained::Ignore {
            return Ok(Vec::new());
        }
        let document = self.document(payload)?;
        let base = document.pointer(&self.base).ok_or(RejectReason::BadField)?;
        let views = self.views(&levels, base)?;
        // Nearly every message says one thing, and thousands of them are held when the database is slow; a vector that
        // grows by itself has room for four.
        let (mut sightings, mut first_fault) = (Vec::with_capacity(1), None);
        for (ordinal, view) in views.iter().enumerate() {
            match self.sighting(view, topic, ordinal, (arrived, meta.waited)) {
                Ok(Some(said)) if self.keeps(meta, view, &said.0) => sightings.push(said),
                Ok(Some(_) | None) => {}
                Err(why) => first_fault = first_fault.or(Some(why)),
            }
        }
        let is_of = |kind| move |(sighting, _): &(Sighting, ClockReading)| sighting.event.kind == kind;
        if !self.zip.is_empty() && sightings.iter().any(is_of(DoorEventKind::Granted)) {
            sightings.retain(|said| !is_of(DoorEventKind::Denied)(said));
        }
        match first_fault {
            Some(why) if sightings.is_empty() => Err(why),
            Some(_) | None => Ok(sightings),
        }
    }

    fn document(&self, payload: &[u8]) -> Result<Value, RejectReason> {
        if payload.len() > LARGEST_PAYLOAD {
            return Err(RejectReason::Oversize);
        }
        let text = std::str::from_utf8(payload).map_err(|_| RejectReason::NotUtf8)?;
        // Firmware written in C likes to send the zero at the end of its strings.
        let text = text.trim_end_matches('\0');
        if text.trim().is_empty() {
            return Err(RejectReason::Empty);
        }
        match self.format {
            // serde_json stops at 128 levels, so that no payload can exhaust the stack.
            PayloadFormat::Json => serde_json::from_str(text).map_err(|_| RejectReason::NotInFormat),
            PayloadFormat::Text => Ok(Value::String(text.trim().to_owned())),
            PayloadFormat::Csv => {
                Ok(text.trim().split(',').map(|column| Value::String(column.trim().to_owned())).collect())
            }
        }
    }

    /// One view for each event that the message carries.
    fn views<'a>(&'a self, levels: &'a [(&'a str, &'a str)], base: &'a Value) -> Result<Vec<View<'a>>, RejectReason> {
        let single = std::slice::from_ref(base);
        let elements = match &self.each {
            None => single,
            Some(each) => base.pointer(each).and_then(Value::as_array).ok_or(RejectReason::BadField)?,
        };
        if elements.len() > MOST_EVENTS {
            return Err(RejectReason::BadField);
        }
        let mut views = Vec::with_capacity(elements.len());
        for element in elements {
            let no_card = self.card.empty.as_slice();
            let plain = View { levels, fields: &self.fields, no_card, base, element, zipped: Vec::new() };
            views.extend(plain.unzipped(&self.zip)?);
            if views.len() > MOST_EVENTS {
                return Err(RejectReason::BadField);
            }
        }
        Ok(views)
    }

    fn sighting(
        &self,
        view: &View<'_>,
        topic: &str,
        ordinal: usize,
        (arrived, waited): (Now, Duration),
    ) -> Result<Option<(Sighting, ClockReading)>, RejectReason> {
        self.check_topic(view)?;
        let rule = self.rules.iter().find(|rule| rule.holds(view)).ok_or(RejectReason::NoRule)?;
        let Some(kind) = rule.kind else {
            return Ok(None);
        };
        let door = self.door(view, kind)?;
        let credential = if kind.names_person() { self.credential(view, &door)? } else { None };
        if credential.is_none() && matches!(kind, DoorEventKind::Granted | DoorEventKind::Read) {
            return Err(RejectReason::BadField);
        }
        let refusal = match (&rule.refusal, kind) {
            (Some(choice), _) => Some(choice.choose(view).unwrap_or(Refusal::Other)),
            (None, DoorEventKind::Denied) => Some(Refusal::Other),
            (None, _) => None,
        };
        let direction = rule.direction.choose(view).unwrap_or(Direction::Unknown);
        let event = DoorEvent { kind, door, direction, credential, refusal };
        let (event_at, time_quality, clock) = self.time.event_time(view.named_value("time"), arrived.wall, waited);
        let key = self.key(view, topic, ordinal, &event, (event_at, time_quality, arrived.wall))?;
        let source = Arc::clone(&self.name);
        Ok(Some((Sighting { key, source, event_at, time_quality, arrived, event }, clock)))
    }

    /// A controller that may publish on its own topics only must not speak for the door of another.
    fn check_topic(&self, view: &View<'_>) -> Result<(), RejectReason> {
        for name in &self.bound {
            let Some(level) = view.level(name) else { continue };
            let said = view.named_value(name).filter(|said| !is_empty(said)).map(scalar_text).transpose()?;
            if said.is_some_and(|said| said != level) {
                return Err(RejectReason::OtherTopic);
            }
        }
        Ok(())
    }

    fn credential(&self, view: &View<'_>, door: &DoorKey) -> Result<Option<Credential>, RejectReason> {
        let Some(text) = view.named_value(CARD).map(card_text).transpose()?.flatten() else {
            return Ok(None);
        };
        if self.card.empty.contains(&text) {
            return Ok(None);
        }
        if text.chars().count() > LONGEST_CREDENTIAL {
            return Err(RejectReason::BadField);
        }
        let scope = match (&self.card.scope, self.card.kind) {
            (Some(template), _) => Some(template.render(view)?.ok_or(RejectReason::BadField)?),
            (None, CredentialKind::Card) => None,
            // Each lock counts its own slots.
            (None, CredentialKind::Slot) => Some(format!("{}/{}", self.name, door.0)),
            (None, CredentialKind::Pin | CredentialKind::User | CredentialKind::Name) => Some(self.name.to_string()),
        };
        Ok(Some(card::read(self.card.kind, scope, &text, &self.card.steps)))
    }

    /// The door's key. An event that names nobody and no door (a heartbeat) belongs to the source as a whole.
    fn door(&self, view: &View<'_>, kind: DoorEventKind) -> Result<DoorKey, RejectReason> {
        let rendered = self.door.as_ref().map(|template| template.render(view)).transpose()?;
        match rendered {
            Some(Some(door)) => Ok(DoorKey(door)),
            Some(None) if kind.names_person() => Err(RejectReason::BadField),
            Some(None) | None => Ok(DoorKey(self.name.to_string())),
        }
    }

    fn key(
        &self,
        view: &View<'_>,
        topic: &str,
        ordinal: usize,
        event: &DoorEvent,
        (event_at, quality, arrived): (WallTime, TimeQuality, WallTime),
    ) -> Result<SightingKey, RejectReason> {
        let nth = if ordinal == 0 || self.zip.is_empty() { String::new() } else { format!("#{ordinal}") };
        if let Some(id) = self.id_of(view)? {
            let id = if id.chars().count() > LONGEST_TEXT { digest(&[&id]) } else { id };
            return Ok(SightingKey(format!("{}/{id}{nth}", self.name)));
        }
        let when = match quality {
            TimeQuality::Device | TimeQuality::Corrected => format!("event {}", event_at.millis()),
            TimeQuality::Arrival => {
                // Half the debounce window: reads of a card that is held there are written at least that often, so the window
                // slides on with them.
                let half = i64::try_from(self.debounce.as_millis() / 2).unwrap_or(i64::MAX).max(1);
                format!("arrival {}", arrived.millis() / half)
            }
        };
        let credential = event.credential.as_ref().map_or("", |credential| credential.value.as_str());
        let (direction, refusal) = (event.direction.word(), event.refusal.map_or("", Refusal::word));
        let digest = digest(&[topic, credential, &event.door.0, event.kind.word(), direction, refusal, &when, &nth]);
        Ok(SightingKey(format!("{}/{digest}", self.name)))
    }

    fn id_of(&self, view: &View<'_>) -> Result<Option<String>, RejectReason> {
        for template in &self.id {
            if let Some(id) = template.render(view)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Does a retained copy count? Everything else does.
    fn keeps(&self, meta: Meta, view: &View<'_>, sighting: &Sighting) -> bool {
        let trusted = sighting.time_quality != TimeQuality::Arrival;
        !meta.retained
            || match self.retained {
                Retained::Ignore => false,
                Retained::IfNewId => trusted && self.id_of(view).is_ok_and(|id| id.is_some()),
                Retained::IfFresh => trusted && sighting.event_at.distance(sighting.arrived.wall) <= FRESH,
                Retained::Accept => true,
            }
    }
}

/// The source that a topic belongs to: the first that claims it.
pub fn route<'a>(sources: &'a [Arc<Mapping>], topic: &str) -> Option<&'a Arc<Mapping>> {
    sources.iter().find(|source| source.claims(topic))
}

/// What is recorded of a message that could not become a sighting: nothing in it may identify anybody.
pub fn reject(why: RejectReason, topic: &str, payload: &[u8]) -> Rejection {
    Rejection { why, topic: topic.chars().take(SAMPLE).collect(), sample: masked_sample(payload) }
}

/// The shape of a payload: keys and punctuation stay, every value and every digit is covered.
fn masked_sample(payload: &[u8]) -> String {
    let head = &payload[..payload.len().min(LARGEST_PAYLOAD)];
    let masked = match serde_json::from_slice::<Value>(head) {
        Ok(value) => masked_json(&value).to_string(),
        Err(_) => String::from_utf8_lossy(&head[..head.len().min(SAMPLE * 4)]).into_owned(),
    };
    let is_json = !masked.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(head).is_ok();
    let cover = |c: char| match c {
        _ if c.is_numeric() => '#',
        _ if !is_json && c.is_alphabetic() => 'x',
        _ if c.is_control() => ' ',
        _ => c,
    };
    masked.chars().take(SAMPLE).map(cover).collect()
}

fn masked_json(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(_) => Value::from(0),
        Value::String(_) => Value::from("…"),
        Value::Array(items) => items.iter().take(SAMPLE).map(masked_json).collect(),
        Value::Object(entries) => {
            entries.iter().take(SAMPLE).map(|(key, value)| (key.clone(), masked_json(value))).collect()
        }
    }
}

/// The first half of a SHA-256 over the parts, each with its length in front, in hexadecimal.
fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut text = String::with_capacity(32);
    for byte in hasher.finalize().iter().take(16) {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// One event inside a message, as conditions and templates see it.
struct View<'a> {
    levels: &'a [(&'a str, &'a str)],
    fields: &'a BTreeMap<String, Vec<String>>,
    /// Texts of the field `card` that stand for "nothing was presented".
    no_card: &'a [String],
    base: &'a Value,
    element: &'a Value,
    zipped: Vec<(&'a str, &'a Value)>,
}

impl<'a> View<'a> {
    /// One view for each position of the arrays at these pointers, which must be of one length.
    fn unzipped(self, zip: &'a [String]) -> Result<Vec<Self>, RejectReason> {
        let arrays: Vec<(&'a str, &'a Vec<Value>)> = zip
            .iter()
            .filter_map(|pointer| Some((pointer.as_str(), self.element.pointer(pointer)?.as_array()?)))
            .collect();
        let Some((_, first)) = arrays.first() else {
            return Ok(vec![self]);
        };
        let length = first.len();
        if length == 0 || length > MOST_EVENTS || arrays.iter().any(|(_, array)| array.len() != length) {
            return Err(RejectReason::BadField);
        }
        let at = |position: usize| arrays.iter().map(|(pointer, array)| (*pointer, &array[position])).collect();
        Ok((0..length).map(|position| Self { zipped: at(position), ..self }).collect())
    }

    /// The value at a pointer; null counts as absent.
    fn value(&self, pointer: &str) -> Option<&'a Value> {
        let zipped = self.zipped.iter().find(|(zipped, _)| *zipped == pointer).map(|(_, value)| *value);
        let found = zipped.or_else(|| self.element.pointer(pointer)).or_else(|| self.base.pointer(pointer));
        found.filter(|value| !value.is_null())
    }

    /// Of the places of a field, the first that says something; where none does, the first that is there.
    fn named_value(&self, name: &str) -> Option<&'a Value> {
        let pointers = self.fields.get(name)?;
        let there = || pointers.iter().filter_map(|pointer| self.value(pointer));
        let no_card = |value: &Value| {
            name == CARD && card_text(value).is_ok_and(|text| text.is_some_and(|text| self.no_card.contains(&text)))
        };
        if pointers.len() > 1
            && let Some(says) = there().find(|value| !is_empty(value) && !no_card(value))
        {
            return Some(says);
        }
        there().next()
    }

    /// The topic level of that name.
    fn level(&self, name: &str) -> Option<&'a str> {
        self.levels.iter().find(|(level, _)| *level == name).map(|(_, text)| *text)
    }

    /// The text behind a name: a topic level or a field.
    fn named_text(&self, name: &str) -> Result<Option<String>, RejectReason> {
        if let Some(level) = self.level(name) {
            return bounded(level.to_owned()).map(Some);
        }
        self.named_value(name).map_or(Ok(None), |value| scalar_text(value).map(Some))
    }

    fn text_at(&self, place: &FieldPlace) -> Option<String> {
        match place {
            FieldPlace::Pointer(pointer) => scalar_text(self.value(pointer)?).ok(),
            FieldPlace::Name(name) => self.named_text(name).ok().flatten(),
        }
    }
}

fn scalar_text(value: &Value) -> Result<String, RejectReason> {
    match value {
        Value::String(text) => bounded(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(RejectReason::BadField),
    }
}

/// A card may also be an array of octets; its text is then the dashed decimal form.
fn card_text(value: &Value) -> Result<Option<String>, RejectReason> {
    let Value::Array(octets) = value else {
        return scalar_text(value).map(Some);
    };
    let octets: Option<Vec<String>> =
        octets.iter().take(LONGEST_TEXT).map(|octet| Some(u8::try_from(octet.as_u64()?).ok()?.to_string())).collect();
    octets.map(|octets| Some(octets.join("-"))).ok_or(RejectReason::BadField)
}

/// No text of a controller is this long, and none has a control character inside.
fn bounded(text: String) -> Result<String, RejectReason> {
    let long = text.len() > LONGEST_TEXT && text.chars().count() > LONGEST_TEXT;
    if long || text.trim().chars().any(char::is_control) { Err(RejectReason::BadField) } else { Ok(text) }
}

impl Template {
    /// The text; none when one of its names is not in the message or is blank.
    fn render(&self, view: &View<'_>) -> Result<Option<String>, RejectReason> {
        let mut rendered = String::new();
        for part in &self.0 {
            match part {
                TemplatePart::Text(text) => rendered.push_str(text),
                TemplatePart::Name(name) => match view.named_text(name)?.filter(|text| !text.is_empty()) {
                    Some(text) => rendered.push_str(&text),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(rendered))
    }
}

impl Rule {
    fn holds(&self, view: &View<'_>) -> bool {
        self.when.iter().all(|condition| condition.holds(view))
    }
}

impl RuleCondition {
    fn holds(&self, view: &View<'_>) -> bool {
        let level;
        let value = match &self.place {
            FieldPlace::Pointer(pointer) => view.value(pointer),
            FieldPlace::Name(name) => match view.level(name) {
                Some(text) => {
                    level = Value::from(text);
                    Some(&level)
                }
                None => view.named_value(name),
            },
        };
        self.tests.iter().all(|test| test.holds(value))
    }
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        let text = || value.and_then(|value| scalar_text(value).ok());
        match self {
            Self::Is(wanted) => value.is_some_and(|value| wanted.iter().any(|want| same(want, value))),
            Self::Not(unwanted) => !value.is_some_and(|value| unwanted.iter().any(|not| same(not, value))),
            Self::Text(wanted) => text().is_some_and(|text| wanted.contains(&text)),
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Empty(wanted) => value.is_none_or(is_empty) == *wanted,
            Self::Regex(pattern) => text().is_some_and(|text| pattern.is_match(&text)),
        }
    }
}

/// Equal and of one type; 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a.to_bits() == b.to_bits())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}

impl<T: Copy> Choice<T> {
    fn choose(&self, view: &View<'_>) -> Option<T> {
        match self {
            Self::Always(word) => Some(*word),
            Self::By { place, words, other } => {
                view.text_at(place).and_then(|text| words.get(&text).copied()).or(*other)
            }
        }
    }
}

#[cfg(test)]
mod tests;
