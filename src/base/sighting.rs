//! PURE. Sightings: the normalised claim "this credential, here, then, in this direction", from any source.
//!
//! Sources create sightings; the engine decides what they mean.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::base::{
    clock::{Now, WallTime},
    closed_list::closed_list,
    mac::MacAddr,
};

/// The identity of a sighting: unique in the database, so a redelivered message changes nothing.
///
/// Built by the source: `<source>/<event id>/<event time>` if the controller numbers its events, otherwise a digest of
/// the message and its time (see [`mapping`](crate::mapping)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SightingKey(pub String);

impl fmt::Display for SightingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A report of a door controller, ready for the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Unique in the database.
    pub key: SightingKey,
    /// The `[[source]]` name, or the capture's interface.
    pub source: Arc<str>,
    /// When it happened: the controller's time if it is inside the trust window, otherwise the arrival.
    pub event_at: WallTime,
    /// Which clock `event_at` comes from.
    pub time_quality: TimeQuality,
    /// When it reached us.
    pub arrived: Now,
    /// What happened.
    pub event: DoorEvent,
}

impl Sighting {
    /// The memory that it needs, in bytes, without what it shares with others.
    pub fn memory(&self) -> usize {
        let credential = self.event.credential.as_ref().map_or(0, |credential| {
            let spellings = credential.spellings.iter().map(|spelling| size_of::<String>() + spelling.len());
            credential.scope.as_ref().map_or(0, String::len) + credential.value.len() + spellings.sum::<usize>()
        });
        size_of::<Self>() + self.key.0.len() + self.event.door.0.len() + credential
    }
}

/// Which clock an event time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeQuality {
    /// The controller's own clock, inside the source's trust window.
    Device,
    /// The controller's clock, corrected as configured for the source.
    Corrected,
    /// The gateway's clock: the message had no time, or one outside the trust window.
    Arrival,
}

/// One event at a door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorEvent {
    /// What kind of event.
    pub kind: DoorEventKind,
    /// The source's key of the door, as `[[door]] match` names it (for example `405419896:4`).
    pub door: DoorKey,
    /// Which way through the door.
    pub direction: Direction,
    /// What was presented; `None` for buttons, contacts and the like.
    pub credential: Option<Credential>,
    /// The controller's reason for a refusal.
    pub refusal: Option<Refusal>,
}

/// The source's own key of a door.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DoorKey(pub String);

impl fmt::Display for DoorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a controller can report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorEventKind {
    /// The controller granted access.
    Granted,
    /// A reader that makes no decision read the credential.
    Read,
    /// The controller refused a known credential.
    Denied,
    /// The controller does not know the credential.
    UnknownCredential,
    /// A duress code was used. Counts as a refusal.
    Duress,
    /// An exit button or request to exit, which identifies no person.
    Exit,
    /// The door was opened by a command.
    RemoteOpen,
    /// The door leaf opened.
    DoorOpen,
    /// The door leaf closed.
    DoorClosed,
    /// The door was held open too long.
    Held,
    /// The door was opened without a grant.
    Forced,
    /// The controller or reader was tampered with.
    Tamper,
    /// The bell was rung.
    Bell,
    /// The controller came online.
    Online,
    /// The controller went offline.
    Offline,
    /// A sign of life from the controller.
    Heartbeat,
}

impl DoorEventKind {
    /// Whether an event of this kind identifies who was at the door.
    pub const fn names_person(self) -> bool {
        match self {
            Self::Granted | Self::Read | Self::Denied | Self::UnknownCredential | Self::Duress => true,
            Self::Exit
            | Self::RemoteOpen
            | Self::DoorOpen
            | Self::DoorClosed
            | Self::Held
            | Self::Forced
            | Self::Tamper
            | Self::Bell
            | Self::Online
            | Self::Offline
            | Self::Heartbeat => false,
        }
    }

    /// Whether a person was refused.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::UnknownCredential | Self::Duress)
    }

    /// Whether the controller let a person in, or left the decision to checkind.
    pub const fn lets_in(self) -> bool {
        matches!(self, Self::Granted | Self::Read)
    }

    /// The word stored in the log of facts.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Read => "read",
            Self::Denied => "denied",
            Self::UnknownCredential => "unknown_credential",
            Self::Duress => "duress",
            Self::Exit => "exit",
            Self::RemoteOpen => "remote_open",
            Self::DoorOpen => "door_open",
            Self::DoorClosed => "door_closed",
            Self::Held => "held",
            Self::Forced => "forced",
            Self::Tamper => "tamper",
            Self::Bell => "bell",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// Which way through a door, as the controller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Into the building.
    In,
    /// Out of the building.
    Out,
    /// Not reported by the controller. Handled as [`Direction::In`], because a door with one reader has it outside.
    Unknown,
}

impl Direction {
    /// The word that mappings use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Unknown => "unknown",
        }
    }
}

/// What was presented at a reader.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Credential {
    /// Card, PIN, slot, user, name or device.
    pub kind: CredentialKind,
    /// The source or lock in which the value has a meaning; `None` if it means the same everywhere (cards, devices). A PIN has
    /// its source here, but belongs to the same person at every source.
    pub scope: Option<String>,
    /// The text as the controller sent it, trimmed.
    pub value: String,
    /// The other spellings of the same credential, in the order in which they are tried.
    pub spellings: Vec<String>,
}

impl Credential {
    /// The credential for logs: enough to tell two cards apart, too little to clone one. PINs and names are hidden.
    pub fn masked(&self) -> String {
        match self.kind {
            CredentialKind::Card => masked(&self.value),
            CredentialKind::Pin => "PIN ****".to_owned(),
            CredentialKind::Slot => format!("slot {}", self.value),
            CredentialKind::User => "user ****".to_owned(),
            CredentialKind::Name => "name ****".to_owned(),
            CredentialKind::Device => format!("device {}", masked(&self.value)),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.masked())
    }
}

/// The last three characters of a card number, after dots.
pub fn masked(value: &str) -> String {
    let tail: String = value.chars().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
    if value.chars().count() <= 3 { "…".to_owned() } else { format!("…{tail}") }
}

/// The kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A card or fob number.
    Card,
    /// A personal number typed at a keypad; never logged or stored in clear.
    Pin,
    /// A numbered slot of a lock.
    Slot,
    /// A user id of the controller.
    User,
    /// A name stored in the controller; matched only if the operator configures it.
    Name,
    /// The MAC address of a device, as a kiosk or a reader of devices sends it.
    Device,
}

closed_list! {
    /// Why the controller refused, in words common to all controllers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Refusal {
        /// No rights at this door.
        NoRights = "no_rights",
        /// Not at this time of day.
        OutsideHours = "outside_hours",
        /// The credential has expired at the controller.
        Expired = "expired",
        /// The credential is disabled or banned at the controller.
        Disabled = "disabled",
        /// A wrong PIN.
        WrongPin = "wrong_pin",
        /// Anti-passback: in twice or out twice.
        AntiPassback = "anti_passback",
        /// Another door is open.
        Interlock = "interlock",
        /// The door needs more cards, or a first card.
        MoreCards = "more_cards",
        /// No reason, or one that checkind does not know.
        Other = "denied",
    }

    /// The word that mappings and the log of facts use.
    fn word;
}

impl Refusal {
    /// The refusal for a word in a mapping.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.word() == word)
    }
}

/// The frames of one device since its last presence, merged: first seen, last seen, how strong.
///
/// Nothing else leaves the capture; no frame is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The capture's interface.
    pub interface: Arc<str>,
    /// The device.
    pub mac: MacAddr,
    /// Start of the unbroken presence that this belongs to: the first strong evidence after a silence longer than the
    /// idle limit. Equal to `first_at` for a device that has just appeared.
    pub since: WallTime,
    /// The first evidence merged here.
    pub first_at: WallTime,
    /// The last evidence merged here, strong or weak.
    pub last_at: WallTime,
    /// The last strong evidence merged here; `None` if all of it was weak.
    pub last_strong_at: Option<WallTime>,
    /// How many frames were merged.
    pub frames: u32,
    /// When the capture sent it.
    pub arrived: Now,
}
