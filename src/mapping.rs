//! PURE. Turns a topic and a payload into sightings, by rules from the configuration.
//!
//! A `[[source]]` is written as a [`MappingFragment`]. [`Mapping::compile`] overlays it on its preset and checks it;
//! [`Mapping::map`] then applies it to each message. Nothing here keeps state: the same message always yields the same
//! sightings with the same keys, so a redelivered message changes nothing.
//!
//! **Keys.** If the message has the fields that `key.id` refers to, the key is `<source>/<id>`; if there are several
//! templates, the first one whose fields are all present counts. An id should include the event time, because
//! controllers restart their numbering.
//!
//! Without an id, the key is `<source>/` and a SHA-256 digest of topic, credential, door, kind, direction, reason and
//! event time, if that time is the controller's own. Otherwise the arrival, rounded to half the debounce window,
//! replaces the event time. A redelivered copy gets the arrival of the original (`source::mqtt::session_state`), so
//! such a message counts twice only if the daemon dies between commit and acknowledgement and the copy arrives after
//! the window. Prefer sources that send ids or timestamps.
//!
//! Never here: what a sighting means for a check-in (`engine`), who owns a credential (`directory`).

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use serde_json::Value;
use sha2::{Digest, Sha256};

use self::{
    content::{Content, RejectReason},
    rule::Rule,
    template::Template,
    time::TimePlan,
    topic::TopicPattern,
    value::{card_text, is_empty, scalar_text},
    view::{CARD, View},
};
use crate::base::{
    card::{self, CardStep, LONGEST_CREDENTIAL},
    clock::{Now, WallTime},
    sighting::{
        Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Refusal, Sighting, SightingKey,
        TimeQuality,
    },
    zone::Zone,
};

mod compile;
pub mod content;
mod fragment;
mod limits;
pub mod presets;
mod rule;
mod template;
mod time;
pub mod topic;
mod value;
mod view;

pub use content::reject;
pub use fragment::{
    CardFragment, KeyFragment, MappingFault, MappingFragment, Pointers, RuleFragment, Templates, TimeFragment,
};
pub use limits::{LARGEST_PAYLOAD, LONGEST_TEXT, MOST_EVENTS};
pub use time::{ClockNotation, ClockReading};

/// The debounce window until [`Mapping::at_site`] sets the site's.
const DEBOUNCE: Duration = Duration::from_secs(5);

/// How old a retained event may be under `retained = "if_fresh"`: old enough to have happened while we were
/// reconnecting.
const FRESH: Duration = Duration::from_secs(120);

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
    /// Names that are both a topic level and a field: the payload must agree with the topic.
    bound: Vec<String>,
    time: TimePlan,
    card: CardPlan,
    rules: Vec<Rule>,
    debounce: Duration,
}

/// `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PayloadFormat {
    Json,
    Text,
    Csv,
}

/// `retained`: whether a retained message counts as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retained {
    Ignore,
    IfNewId,
    IfFresh,
    Accept,
}

/// `[source.card]`, compiled.
#[derive(Debug)]
struct CardPlan {
    kind: CredentialKind,
    steps: Vec<CardStep>,
    empty: Vec<String>,
    scope: Option<Template>,
}

/// What we know about a message in addition to its topic and payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Whether the broker kept this copy and sent it because we subscribed; it tells us nothing about the present.
    pub retained: bool,
    /// The longest time for which the broker may have kept it for us.
    pub waited: Duration,
}

/// The result of mapping a message.
#[derive(Debug)]
pub struct Mapped {
    /// The part for the pipeline.
    pub content: Content,
    /// The reading of the controller's clock for each sighting, in the same order.
    pub clocks: Vec<ClockReading>,
}

impl Mapping {
    /// Replaces the rules of the source's own `time.zone`, if it has one, with those that `find` returns, if any.
    #[must_use]
    pub fn in_zone(mut self, find: impl FnOnce(&str) -> Option<Zone>) -> Self {
        self.time.zone = self.time.zone.map(|zone| find(zone.name()).unwrap_or(zone));
        self
    }

    /// How late a live message of this source may be for its time to be trusted.
    pub const fn lateness(&self) -> Duration {
        self.time.lateness()
    }

    /// What an operator should do about a controller of this source whose clock is ahead by this many milliseconds.
    pub fn clock_advice(&self, ahead: (i64, ClockNotation), now: WallTime) -> String {
        self.time.advice(ahead, now)
    }

    /// The debounce window: repeated reads of one card at one door within it are one tap.
    pub const fn debounce(&self) -> Duration {
        self.debounce
    }

    /// Sets what the site defines: the zone for times without an offset, unless the source sets its own, and the
    /// debounce window, which is part of the keys of messages with neither id nor time.
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

    /// Whether the topic belongs to this source.
    pub fn claims(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic).is_some())
    }

    /// Maps a message. Never fails: a message that cannot be understood becomes [`Content::Rejected`].
    ///
    /// If a list has good and bad entries, the good ones count. A message without a good entry is rejected with the
    /// reason for the first bad one.
    pub fn map(&self, topic: &str, payload: &[u8], meta: Meta, arrived: Now) -> Mapped {
        let events = match self.try_map(topic, payload, meta, arrived) {
            Ok(events) => events,
            Err(why) => {
                return Mapped { content: Content::Rejected(content::reject(why, topic, payload)), clocks: Vec::new() };
            }
        };
        let (sightings, clocks): (Vec<Sighting>, Vec<ClockReading>) = events.into_iter().unzip();
        let content = if sightings.is_empty() { Content::Ignored } else { Content::Sightings(sightings) };
        Mapped { content, clocks }
    }

    /// The events of a message. An empty list: the message was understood and has no effect.
    fn try_map(
        &self,
        topic: &str,
        payload: &[u8],
        meta: Meta,
        arrived: Now,
    ) -> Result<Vec<(Sighting, ClockReading)>, RejectReason> {
        // If the source ignores retained copies, do not read the payload.
        let levels = self.topics.iter().find_map(|pattern| pattern.matches(topic)).ok_or(RejectReason::UnknownTopic)?;
        if meta.retained && self.retained == Retained::Ignore {
            return Ok(Vec::new());
        }

        // Read the payload, and find the events in it.
        let document = self.document(payload)?;
        let base = document.pointer(&self.base).ok_or(RejectReason::BadField)?;
        let views = self.views(&levels, base)?;

        // Map each event. Nearly every message has only one, and thousands are held when the database is slow: a vector
        // that grows by itself would have room for four.
        let (mut sightings, mut first_fault) = (Vec::with_capacity(1), None);
        for (ordinal, view) in views.iter().enumerate() {
            match self.sighting(view, topic, ordinal, (arrived, meta.waited)) {
                Ok(Some(event)) if self.keeps(meta, view, &event.0) => sightings.push(event),
                Ok(Some(_) | None) => {}
                Err(why) => first_fault = first_fault.or(Some(why)),
            }
        }

        // Zipped events are one tap answered by several relays: if one of them opened, the refusals of the others are
        // irrelevant.
        let is_of = |kind| move |(sighting, _): &(Sighting, ClockReading)| sighting.event.kind == kind;
        if !self.zip.is_empty() && sightings.iter().any(is_of(DoorEventKind::Granted)) {
            sightings.retain(|event| !is_of(DoorEventKind::Denied)(event));
        }
        match first_fault {
            Some(why) if sightings.is_empty() => Err(why),
            Some(_) | None => Ok(sightings),
        }
    }

    /// The payload as JSON, whatever its format.
    fn document(&self, payload: &[u8]) -> Result<Value, RejectReason> {
        if payload.len() > LARGEST_PAYLOAD {
            return Err(RejectReason::Oversize);
        }
        let text = std::str::from_utf8(payload).map_err(|_| RejectReason::NotUtf8)?;
        // Firmware written in C may send the terminating zero of its strings.
        let text = text.trim_end_matches('\0');
        if text.trim().is_empty() {
            return Err(RejectReason::Empty);
        }
        match self.format {
            // serde_json stops at 128 levels, so no payload can exhaust the stack.
            PayloadFormat::Json => serde_json::from_str(text).map_err(|_| RejectReason::NotInFormat),
            PayloadFormat::Text => Ok(Value::String(text.trim().to_owned())),
            PayloadFormat::Csv => {
                Ok(text.trim().split(',').map(|column| Value::String(column.trim().to_owned())).collect())
            }
        }
    }

    /// One view for each event in the message.
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

    /// The sighting for one event; `None` if its rule ignores it.
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

    /// If a name is in both topic and payload, they must agree: a controller that may publish only on its own topics
    /// must not report events at another controller's door.
    fn check_topic(&self, view: &View<'_>) -> Result<(), RejectReason> {
        for name in &self.bound {
            let Some(level) = view.level(name) else { continue };
            let text = view.named_value(name).filter(|value| !is_empty(value)).map(scalar_text).transpose()?;
            if text.is_some_and(|text| text != level) {
                return Err(RejectReason::OtherTopic);
            }
        }
        Ok(())
    }

    /// The credential that was presented; `None` if the field is absent or contains a text for "nothing was presented".
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
            (None, CredentialKind::Card | CredentialKind::Device) => None,
            // Each lock counts its own slots.
            (None, CredentialKind::Slot) => Some(format!("{}/{}", self.name, door.0)),
            (None, CredentialKind::Pin | CredentialKind::User | CredentialKind::Name) => Some(self.name.to_string()),
        };
        Ok(Some(card::read(self.card.kind, scope, &text, &self.card.steps)))
    }

    /// The door's key. An event that names neither a person nor a door (a heartbeat) belongs to the source as a whole.
    fn door(&self, view: &View<'_>, kind: DoorEventKind) -> Result<DoorKey, RejectReason> {
        let rendered = self.door.as_ref().map(|template| template.render(view)).transpose()?;
        match rendered {
            Some(Some(door)) => Ok(DoorKey(door)),
            Some(None) if kind.names_person() => Err(RejectReason::BadField),
            Some(None) | None => Ok(DoorKey(self.name.to_string())),
        }
    }

    /// The key of an event; the module documentation describes it.
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
                // Round to half the debounce window: reads of a card held to the reader then get a new key at least
                // that often, so the window keeps sliding.
                let half = i64::try_from(self.debounce.as_millis() / 2).unwrap_or(i64::MAX).max(1);
                format!("arrival {}", arrived.millis() / half)
            }
        };
        let credential = event.credential.as_ref().map_or("", |credential| credential.value.as_str());
        let (direction, refusal) = (event.direction.word(), event.refusal.map_or("", Refusal::word));
        let digest = digest(&[topic, credential, &event.door.0, event.kind.word(), direction, refusal, &when, &nth]);
        Ok(SightingKey(format!("{}/{digest}", self.name)))
    }

    /// The id from the first template whose fields are all present.
    fn id_of(&self, view: &View<'_>) -> Result<Option<String>, RejectReason> {
        for template in &self.id {
            if let Some(id) = template.render(view)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Whether this event counts. For a retained copy the source's policy decides; everything else always counts.
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

/// The first source that claims the topic.
pub fn route<'a>(sources: &'a [Arc<Mapping>], topic: &str) -> Option<&'a Arc<Mapping>> {
    sources.iter().find(|source| source.claims(topic))
}

/// The first half of a SHA-256 over the parts, each preceded by its length, in hexadecimal.
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

#[cfg(test)]
mod tests;
