//! PURE. The log's entries: what was said to have happened, in the form in which it is kept and folded.
//!
//! A fact never says what was decided. Its key is where it belongs (day, subject, instant) and a digest of what was said, so
//! the same fact finds itself when it comes again. Everything that turns a fact into bytes and back is in this file.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::{
    clock::WallTime,
    mac::MacAddr,
    record::{BusinessId, CoworkerId},
    sighting::{
        Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Presence, Refusal, Sighting,
        TimeQuality,
    },
};

/// Milliseconds in a day of the log. Days are UTC days: they do not depend on any setting, so a fact belongs to the same
/// day whenever it comes.
const DAY: i64 = 86_400_000;

/// The first byte of every stored fact: the codec that wrote it.
const CODEC: u8 = 1;

/// Presences of one device are one entry of the log per this span, in milliseconds, so that a laptop that speaks every
/// minute fills four entries an hour.
pub const LOG_SPAN: i64 = 15 * 60_000;

/// A day of the log: days since 1970-01-01, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogDay(pub i64);

impl LogDay {
    /// The day of an instant.
    pub const fn of(at: WallTime) -> Self {
        Self(at.millis().div_euclid(DAY))
    }

    /// Its first instant.
    pub const fn start(self) -> WallTime {
        WallTime::from_millis(self.0 * DAY)
    }
}

/// 128 bits of SHA-256 over what was said: two facts with one digest are the same fact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FactDigest(pub [u8; 16]);

impl FactDigest {
    /// Of these parts, told apart by their lengths.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        Self(digest)
    }

    /// Its first half as a number.
    fn number(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first)
    }
}

impl fmt::Debug for FactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Whom the log files a fact under: a coworker (above zero), a credential or device that is not one person's (below zero),
/// or the business as a whole (zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(pub i64);

impl Subject {
    /// What names no one: buttons, contacts, messages that were not understood.
    pub const BUSINESS: Self = Self(0);

    /// A coworker.
    pub const fn coworker(id: CoworkerId) -> Self {
        Self(id.0)
    }

    /// A credential that belongs to no one, or to more than one person. `key` is the directory's own, so that short
    /// numbers do not stand in the log as themselves.
    pub fn stranger(business: BusinessId, credential: &Credential, key: &str) -> Self {
        let kind = [credential.kind as u8];
        let scope = credential.scope.as_deref().unwrap_or_default();
        let parts = [key.as_bytes(), &business.0.to_be_bytes(), &kind, scope.as_bytes(), credential.value.as_bytes()];
        Self::below_zero(FactDigest::of(parts))
    }

    /// Whoever was refused at a door without showing what could tell them apart: a wrong PIN, a card that could not be read.
    pub fn nobody_at(business: BusinessId, door: &DoorKey) -> Self {
        Self::below_zero(FactDigest::of([b"door".as_slice(), &business.0.to_be_bytes(), door.0.as_bytes()]))
    }

    /// A device that belongs to no one, or to more than one person.
    pub fn strange_device(business: BusinessId, mac: MacAddr) -> Self {
        Self::below_zero(FactDigest::of([b"device".as_slice(), &business.0.to_be_bytes(), &mac.octets()]))
    }

    fn below_zero(digest: FactDigest) -> Self {
        // Without the highest bit its negative is a number too.
        Self(-(digest.number().cast_signed() & i64::MAX).max(1))
    }

    /// The coworker, if it is one.
    pub fn as_coworker(self) -> Option<CoworkerId> {
        (self.0 > 0).then_some(CoworkerId(self.0))
    }
}

/// Whom the directory of then recognised in what was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Recognised {
    /// One person: the fact's subject.
    Coworker,
    /// Nothing was presented, or the event names no one.
    NoCredential,
    /// A credential that belongs to no one.
    Unknown,
    /// A credential that belongs to more than one person.
    Ambiguous,
}

/// The place of a fact in the order of time. Facts of one instant have an order of their own that does not depend on the
/// order of arrival: timers and directory versions first, then the network, then doors. The digest is what is left where
/// nothing else decides, see [`FactOrder::ties_with`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FactOrder {
    /// When.
    pub at: WallTime,
    /// Among the facts of one instant.
    pub rank: FactRank,
    /// Among those of one rank: the controller's number of the event, if it has one.
    pub ordinal: u64,
    /// Among those of one number.
    pub digest: FactDigest,
}

impl FactOrder {
    /// Before everything at or after this instant.
    pub const fn before(at: WallTime) -> Self {
        Self { at, rank: FactRank::Timer, ordinal: 0, digest: FactDigest([0; 16]) }
    }

    /// Two events at doors of which nothing says which was first. Where they are one person's, where the person stands does.
    pub fn ties_with(&self, other: &Self) -> bool {
        let is_door = self.rank == FactRank::Door && other.rank == FactRank::Door;
        is_door && self.at == other.at && self.ordinal == other.ordinal
    }

    /// Before everything.
    pub const FIRST: Self = Self::before(WallTime::from_millis(0));
}

/// The order of facts of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FactRank {
    /// A timer ran out.
    Timer,
    /// A version of the directory comes into force.
    Directory,
    /// A device was heard.
    Network,
    /// A door said something.
    Door,
}

/// What was presented at a reader, as the log keeps it: enough to assign an unknown card, never a PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownCredential {
    /// Card, PIN, slot, user or name.
    pub kind: CredentialKind,
    /// The source or lock inside which it means something.
    pub scope: Option<String>,
    /// The text as the controller sent it; none where it is, or may be, a PIN.
    pub value: Option<String>,
}

/// The most digits of a PIN, and of a number that may be one: some keypads send the PIN where the card number stands.
pub const LONGEST_PIN: usize = 6;

impl ShownCredential {
    fn of(credential: &Credential) -> Self {
        let value = &credential.value;
        let short = value.len() <= LONGEST_PIN && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let hidden = match credential.kind {
            CredentialKind::Pin => true,
            CredentialKind::Card => short,
            CredentialKind::Slot | CredentialKind::User | CredentialKind::Name => false,
        };
        Self { kind: credential.kind, scope: credential.scope.clone(), value: (!hidden).then(|| value.clone()) }
    }

    /// For people.
    pub fn text(&self) -> String {
        match (&self.value, self.kind) {
            (Some(value), _) => value.clone(),
            (None, CredentialKind::Pin) => "PIN".to_owned(),
            (None, _) => "PIN or short number".to_owned(),
        }
    }
}

/// What a door controller said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorFact {
    /// Where.
    pub business: BusinessId,
    /// When: the controller's time where it is believed, else the arrival.
    pub at: WallTime,
    /// Whose clock `at` is.
    pub quality: TimeQuality,
    /// When it reached us.
    pub arrived: WallTime,
    /// Whom it is filed under.
    pub subject: Subject,
    /// How that was found.
    pub recognised: Recognised,
    /// Of source, key and content.
    pub digest: FactDigest,
    /// The controller's number of the event, where its key has one: of two events in one second, the earlier has the smaller.
    pub ordinal: u64,
    /// The `[[source]]`.
    pub source: Arc<str>,
    /// What happened.
    pub kind: DoorEventKind,
    /// The source's key of the door.
    pub door: DoorKey,
    /// Which way.
    pub direction: Direction,
    /// What was presented.
    pub shown: Option<ShownCredential>,
    /// The controller's reason for a refusal.
    pub refusal: Option<Refusal>,
    /// It came later than anything is decided: set aside, and never folded.
    pub too_late: bool,
}

impl DoorFact {
    /// What a sighting says, filed under this subject.
    pub fn of(sighting: &Sighting, business: BusinessId, subject: Subject, recognised: Recognised) -> Self {
        let DoorEvent { kind, door, direction, credential, refusal } = &sighting.event;
        Self {
            business,
            at: sighting.event_at,
            quality: sighting.time_quality,
            arrived: sighting.arrived.wall,
            subject,
            recognised,
            digest: digest_of(sighting, business),
            ordinal: ordinal_of(&sighting.key.0),
            source: Arc::clone(&sighting.source),
            kind: *kind,
            door: door.clone(),
            direction: *direction,
            shown: credential.as_ref().map(ShownCredential::of),
            refusal: *refusal,
            too_late: false,
        }
    }

    /// Has it no time of its own, but that at which it came?
    pub fn has_arrival_time(&self) -> bool {
        self.quality == TimeQuality::Arrival
    }

    /// What finds it again.
    pub fn key(&self) -> FactKey {
        FactKey { arrived: self.has_arrival_time(), ..FactKey::of(self.subject, self.at, self.digest) }
    }

    /// Its place in the order of time.
    pub const fn place(&self) -> FactOrder {
        FactOrder { at: self.at, rank: FactRank::Door, ordinal: self.ordinal, digest: self.digest }
    }

    /// Two reads of the same credential at the same reader with the same answer: what the debounce compares.
    pub fn tap(&self) -> TapId {
        let shown = self.shown.as_ref().map(ShownCredential::text).unwrap_or_default();
        let flags = [self.direction as u8, u8::from(self.kind.lets_in())];
        let digest = FactDigest::of([
            self.business.0.to_be_bytes().as_slice(),
            self.door.0.as_bytes(),
            &flags,
            shown.as_bytes(),
        ]);
        TapId(digest.number())
    }
}

/// The controller's number of an event: what the last part of its key ends with that is neither a time nor a digest.
fn ordinal_of(key: &str) -> u64 {
    const DIGEST: usize = 32;
    let number = |part: &str| {
        let is_digest = part.len() == DIGEST && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = part.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        part.get(digits..).filter(|_| !is_digest && !part.contains(':')).and_then(|digits| digits.parse().ok())
    };
    key.rsplit('/').find_map(number).unwrap_or(0)
}

/// What a message said, whatever its time: the controller's key of the event, and everything that tells two events apart.
/// The same key with other content is another event.
fn digest_of(sighting: &Sighting, business: BusinessId) -> FactDigest {
    let DoorEvent { kind, door, direction, credential, refusal } = &sighting.event;
    let flags = [*kind as u8, *direction as u8, refusal.map_or(0, |refusal| refusal as u8 + 1)];
    let credential = credential.as_ref();
    let credential_kind = credential.map_or(0, |credential| credential.kind as u8 + 1);
    let scope = credential.and_then(|credential| credential.scope.as_deref()).unwrap_or_default();
    let value = credential.map(|credential| credential.value.as_str()).unwrap_or_default();
    FactDigest::of([
        business.0.to_be_bytes().as_slice(),
        sighting.source.as_bytes(),
        sighting.key.0.as_bytes(),
        &flags,
        door.0.as_bytes(),
        &[credential_kind],
        scope.as_bytes(),
        value.as_bytes(),
    ])
}

/// See [`DoorFact::tap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TapId(pub u64);

impl TapId {
    /// Stands for an exit by a toggle door at a business, among the taps that somebody made.
    pub fn toggled_out(business: BusinessId) -> Self {
        Self(FactDigest::of([business.0.to_be_bytes().as_slice(), b"toggled out"]).number())
    }
}

/// One hand-over of a device's presence: some seconds to a minute of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The last evidence: when it is decided.
    pub last_at: WallTime,
    /// The first evidence: when silence ended.
    pub first_at: WallTime,
    /// The last strong evidence; none when all of it was weak.
    pub strong_at: Option<WallTime>,
    /// The start of the unbroken presence.
    pub since: WallTime,
    /// Frames that were merged.
    pub frames: u32,
}

impl Point {
    /// What a presence says.
    pub fn of(presence: &Presence) -> Self {
        Self {
            last_at: presence.last_at,
            first_at: presence.first_at,
            strong_at: presence.last_strong_at,
            since: presence.since,
            frames: presence.frames,
        }
    }

    /// Its place in the order of time, and its identity.
    pub fn place(&self, business: BusinessId, mac: MacAddr) -> FactOrder {
        let times = [self.last_at, self.first_at, self.strong_at.unwrap_or(WallTime::from_millis(0)), self.since];
        let mut bytes = [0; 32];
        for (to, from) in bytes.chunks_exact_mut(8).zip(times) {
            to.copy_from_slice(&from.millis().to_be_bytes());
        }
        let digest = FactDigest::of([business.0.to_be_bytes().as_slice(), &mac.octets(), &bytes]);
        FactOrder { at: self.last_at, rank: FactRank::Network, ordinal: 0, digest }
    }

    /// The same, moved by a step of the clock that wrote it.
    #[must_use]
    pub fn moved(&self, by: i64) -> Self {
        Self {
            last_at: self.last_at.moved(by),
            first_at: self.first_at.moved(by),
            strong_at: self.strong_at.map(|at| at.moved(by)),
            since: self.since.moved(by),
            frames: self.frames,
        }
    }
}

/// Presences of one device on one day of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceFact {
    /// Where.
    pub business: BusinessId,
    /// Whose device it is.
    pub subject: Subject,
    /// The device.
    pub mac: MacAddr,
    /// The capture's interface.
    pub interface: Arc<str>,
    /// Earliest first; never empty, never across midnight UTC.
    pub points: Vec<Point>,
}

impl PresenceFact {
    /// When the first of its points is decided.
    pub fn at(&self) -> WallTime {
        self.points.first().map_or(WallTime::from_millis(0), |point| point.last_at)
    }

    /// Its key, made of its first point.
    pub fn digest(&self) -> FactDigest {
        self.points.first().map_or(FactDigest([0; 16]), |point| point.place(self.business, self.mac).digest)
    }
}

/// A device that belongs to no one person, once per pass day and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrangeDeviceFact {
    /// Where.
    pub business: BusinessId,
    /// The device.
    pub mac: MacAddr,
    /// The capture's interface.
    pub interface: Arc<str>,
    /// Unknown or ambiguous.
    pub recognised: Recognised,
    /// The evidence that made the record.
    pub point: Point,
}

/// A message that could not be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedFact {
    /// Where.
    pub business: BusinessId,
    /// When it arrived.
    pub at: WallTime,
    /// Drawn, because such messages have nothing that tells them apart.
    pub digest: FactDigest,
    /// The `[[source]]`.
    pub source: Arc<str>,
    /// The topic, long numbers masked.
    pub topic: String,
    /// Why, as a word.
    pub why: String,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A door controller said something.
    Door(DoorFact),
    /// Someone's device was heard.
    Presence(PresenceFact),
    /// A device that belongs to no one person was heard.
    StrangeDevice(StrangeDeviceFact),
    /// A message was not understood.
    Rejected(RejectedFact),
}

/// The columns of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFact {
    /// Where.
    pub business: BusinessId,
    /// The day of `at`.
    pub day: LogDay,
    /// Whom it is filed under.
    pub subject: Subject,
    /// When.
    pub at: WallTime,
    /// What makes it unique.
    pub digest: FactDigest,
    /// `at` is the arrival, and would be another if it came again.
    pub arrived: bool,
    /// The codec's byte, then the codec's bytes.
    pub payload: Vec<u8>,
}

/// What finds a fact again in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactKey {
    /// The day of `at`.
    pub day: LogDay,
    /// Whom it is filed under.
    pub subject: Subject,
    /// When.
    pub at: WallTime,
    /// What makes it unique.
    pub digest: FactDigest,
    /// `at` is the arrival, and would be another if it came again.
    pub arrived: bool,
}

impl FactKey {
    /// Of a fact that has a time of its own.
    const fn of(subject: Subject, at: WallTime, digest: FactDigest) -> Self {
        Self { day: LogDay::of(at), subject, at, digest, arrived: false }
    }
}

/// A payload that no version of this program wrote, or a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the log cannot be read; was it written by a newer checkind?")]
pub struct UnreadableFact;

/// What the bytes hold. New variants and new codecs are appended, never changed.
#[derive(Serialize, Deserialize)]
enum Payload<'a> {
    Door {
        source: &'a str,
        ordinal: u64,
        quality: TimeQuality,
        delay: i64,
        recognised: Recognised,
        kind: DoorEventKind,
        door: &'a str,
        direction: Direction,
        shown: Option<(CredentialKind, Option<&'a str>, Option<&'a str>)>,
        refusal: Option<Refusal>,
        too_late: bool,
    },
    Presence {
        interface: &'a str,
        mac: [u8; 6],
        points: Vec<StoredPoint>,
    },
    StrangeDevice {
        interface: &'a str,
        mac: [u8; 6],
        recognised: Recognised,
        points: Vec<StoredPoint>,
    },
    Rejected {
        source: &'a str,
        topic: &'a str,
        why: &'a str,
    },
}

/// A point as differences in milliseconds: to the point before, inside the point, and of `since` only where it changes.
#[derive(Serialize, Deserialize)]
struct StoredPoint {
    later: i64,
    length: i64,
    before_strong: Option<i64>,
    since: Option<i64>,
    frames: u32,
}

fn packed(points: &[Point], at: WallTime) -> Vec<StoredPoint> {
    let (mut last, mut since) = (at, None);
    let pack = |point: &Point| {
        let stored = StoredPoint {
            later: point.last_at.millis() - last.millis(),
            length: point.last_at.millis() - point.first_at.millis(),
            before_strong: point.strong_at.map(|strong| point.last_at.millis() - strong.millis()),
            since: (since != Some(point.since)).then(|| point.first_at.millis() - point.since.millis()),
            frames: point.frames,
        };
        (last, since) = (point.last_at, Some(point.since));
        stored
    };
    points.iter().map(pack).collect()
}

fn unpacked(stored: Vec<StoredPoint>, at: WallTime) -> Vec<Point> {
    let (mut last, mut since) = (at, at);
    let unpack = |stored: StoredPoint| {
        let last_at = last.moved(stored.later);
        let first_at = last_at.moved(-stored.length);
        since = stored.since.map_or(since, |before| first_at.moved(-before));
        last = last_at;
        let strong_at = stored.before_strong.map(|before| last_at.moved(-before));
        Point { last_at, first_at, strong_at, since, frames: stored.frames }
    };
    stored.into_iter().map(unpack).collect()
}

/// Points of a device that no entry of the log holds yet, as bytes beside their first instant.
pub fn pack_points(points: &[Point], at: WallTime) -> Vec<u8> {
    encoded(&packed(points, at))
}

/// The reverse of [`pack_points`].
pub fn unpack_points(bytes: &[u8], at: WallTime) -> Result<Vec<Point>, UnreadableFact> {
    decoded(bytes).map(|stored: Vec<StoredPoint>| unpacked(stored, at))
}

/// Plain data as bytes, behind the codec's byte.
pub fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![CODEC]).expect("plain data has a form in bytes")
}

/// The reverse of [`encoded`].
pub fn decoded<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, UnreadableFact> {
    let (codec, rest) = bytes.split_first().ok_or(UnreadableFact)?;
    if *codec != CODEC {
        return Err(UnreadableFact);
    }
    postcard::from_bytes(rest).map_err(|_| UnreadableFact)
}

impl Fact {
    /// The columns.
    pub fn stored(&self) -> StoredFact {
        match self {
            Self::Door(door) => {
                let shown =
                    door.shown.as_ref().map(|shown| (shown.kind, shown.scope.as_deref(), shown.value.as_deref()));
                let payload = Payload::Door {
                    source: &door.source,
                    ordinal: door.ordinal,
                    quality: door.quality,
                    delay: door.arrived.millis() - door.at.millis(),
                    recognised: door.recognised,
                    kind: door.kind,
                    door: &door.door.0,
                    direction: door.direction,
                    shown,
                    refusal: door.refusal,
                    too_late: door.too_late,
                };
                stored(door.business, door.key(), &payload)
            }
            Self::Presence(presence) => {
                let (mac, at) = (presence.mac.octets(), presence.at());
                let points = packed(&presence.points, at);
                let payload = Payload::Presence { interface: &presence.interface, mac, points };
                stored(presence.business, FactKey::of(presence.subject, at, presence.digest()), &payload)
            }
            Self::StrangeDevice(device) => {
                let (mac, at) = (device.mac.octets(), device.point.last_at);
                let points = packed(&[device.point], at);
                let (interface, recognised) = (&*device.interface, device.recognised);
                let payload = Payload::StrangeDevice { interface, mac, recognised, points };
                let subject = Subject::strange_device(device.business, device.mac);
                let digest = device.point.place(device.business, device.mac).digest;
                stored(device.business, FactKey::of(subject, at, digest), &payload)
            }
            Self::Rejected(rejected) => {
                let payload =
                    Payload::Rejected { source: &rejected.source, topic: &rejected.topic, why: &rejected.why };
                let key = FactKey::of(Subject::BUSINESS, rejected.at, rejected.digest);
                stored(rejected.business, key, &payload)
            }
        }
    }

    /// From the columns.
    pub fn read(row: &StoredFact) -> Result<Self, UnreadableFact> {
        let StoredFact { business, subject, at, digest, .. } = *row;
        Ok(match decoded(&row.payload)? {
            Payload::Door {
                source,
                ordinal,
                quality,
                delay,
                recognised,
                kind,
                door,
                direction,
                shown,
                refusal,
                too_late,
            } => {
                let own = |text: Option<&str>| text.map(ToOwned::to_owned);
                Self::Door(DoorFact {
                    business,
                    at,
                    quality,
                    arrived: at.moved(delay),
                    subject,
                    recognised,
                    digest,
                    ordinal,
                    source: source.into(),
                    kind,
                    door: DoorKey(door.to_owned()),
                    direction,
                    shown: shown.map(|(kind, scope, value)| ShownCredential {
                        kind,
                        scope: own(scope),
                        value: own(value),
                    }),
                    refusal,
                    too_late,
                })
            }
            Payload::Presence { interface, mac, points } => {
                let points = unpacked(points, at);
                if points.is_empty() {
                    return Err(UnreadableFact);
                }
                Self::Presence(PresenceFact {
                    business,
                    subject,
                    mac: MacAddr::new(mac),
                    interface: interface.into(),
                    points,
                })
            }
            Payload::StrangeDevice { interface, mac, recognised, points } => {
                let point = unpacked(points, at).into_iter().next().ok_or(UnreadableFact)?;
                Self::StrangeDevice(StrangeDeviceFact {
                    business,
                    mac: MacAddr::new(mac),
                    interface: interface.into(),
                    recognised,
                    point,
                })
            }
            Payload::Rejected { source, topic, why } => Self::Rejected(RejectedFact {
                business,
                at,
                digest,
                source: source.into(),
                topic: topic.to_owned(),
                why: why.to_owned(),
            }),
        })
    }
}

fn stored(business: BusinessId, key: FactKey, payload: &Payload<'_>) -> StoredFact {
    let FactKey { day, subject, at, digest, arrived } = key;
    StoredFact { business, day, subject, at, digest, arrived, payload: encoded(payload) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> WallTime {
        WallTime::from_millis(millis)
    }

    fn tap(value: &str) -> DoorFact {
        DoorFact {
            business: BusinessId(1),
            at: at(1_772_442_000_000),
            quality: TimeQuality::Device,
            arrived: at(1_772_442_000_350),
            subject: Subject(7),
            recognised: Recognised::Coworker,
            digest: FactDigest([7; 16]),
            ordinal: 35,
            source: "front".into(),
            kind: DoorEventKind::Granted,
            door: DoorKey("main".to_owned()),
            direction: Direction::In,
            shown: Some(ShownCredential { kind: CredentialKind::Card, scope: None, value: Some(value.to_owned()) }),
            refusal: None,
            too_late: false,
        }
    }

    #[test]
    fn a_door_fact_is_read_back_and_is_small() {
        let fact = Fact::Door(tap("8165538"));
        let row = fact.stored();
        assert_eq!(Fact::read(&row), Ok(fact));
        assert!(row.payload.len() < 40, "{} bytes", row.payload.len());
    }

    #[test]
    fn events_of_one_second_come_in_the_order_of_their_numbers() {
        for (key, number) in [
            ("front/405419896/9", 9),
            ("front/405419896/10", 10),
            ("front/405419896/10/2026-03-02 09:00:00 PST", 10),
            ("flat/side/2026-03-02T09:00:00+01:30/n17", 17),
            // A digest is no number, whatever it ends with.
            ("front/0123456789abcdef0123456789abc711", 0),
            ("x", 0),
            ("", 0),
            ("99999999999999999999999", 0),
        ] {
            assert_eq!(ordinal_of(key), number, "{key}");
        }
    }

    #[test]
    fn what_a_newer_program_wrote_is_no_fact() {
        let mut row = Fact::Door(tap("8165538")).stored();
        row.payload[0] = 99;
        assert_eq!(Fact::read(&row), Err(UnreadableFact));
        row.payload.clear();
        assert_eq!(Fact::read(&row), Err(UnreadableFact));
    }

    #[test]
    fn a_pin_and_a_number_that_may_be_one_are_not_kept() {
        let shown = |kind, value: &str| {
            ShownCredential::of(&Credential { kind, scope: None, value: value.to_owned(), spellings: Vec::new() })
        };
        assert_eq!(shown(CredentialKind::Pin, "48151623").value, None);
        assert_eq!(shown(CredentialKind::Card, "4711").value, None);
        assert_eq!(shown(CredentialKind::Card, "8165538").text(), "8165538");
        assert_eq!(shown(CredentialKind::Slot, "3").text(), "3");
    }

    #[test]
    fn strangers_are_below_zero_and_differ() {
        let card = |value: &str| Credential {
            kind: CredentialKind::Card,
            scope: None,
            value: value.to_owned(),
            spellings: Vec::new(),
        };
        let subject = |value: &str| Subject::stranger(BusinessId(1), &card(value), "key");
        assert!(subject("1").0 < 0 && subject("1") != subject("2"));
        assert_eq!(subject("1").as_coworker(), None);
    }

    proptest! {
        #[test]
        fn points_are_read_back(list in prop::collection::vec(
            (0i64..60_000, 0i64..60_000, prop::option::of(0i64..60_000), 0i64..100_000_000, 0u32..9), 1..20)
        ) {
            let mut last = 1_772_442_000_000;
            let points: Vec<Point> = list.into_iter().map(|(later, length, strong, before, frames)| {
                last += later;
                let (last_at, first_at) = (at(last), at(last - length));
                Point { last_at, first_at, strong_at: strong.map(|less| last_at.moved(-less)), since: first_at.moved(-before), frames }
            }).collect();
            let bytes = pack_points(&points, points[0].last_at);
            prop_assert_eq!(unpack_points(&bytes, points[0].last_at), Ok(points));
        }
    }
}
