//! PURE. Converts facts to the columns and bytes that the database stores, and back.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    digest::FactDigest,
    door::{DoorFact, ShownCredential},
    edit::{Edit, EditFact, TimeSpan},
    entry::{Fact, RejectedFact},
    order::{FactKey, LogDay},
    presence::{Point, PresenceFact, StrangeDeviceFact},
    subject::{Recognised, Subject},
};
use crate::base::{
    clock::WallTime,
    mac::MacAddr,
    record::{BusinessId, CheckinSource},
    sighting::{CredentialKind, Direction, DoorEventKind, DoorKey, Refusal, TimeQuality},
};

/// The first byte of every stored fact: the version of the codec that wrote it.
const CODEC: u8 = 1;

/// An entry as the columns of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFact {
    /// Where.
    pub business: BusinessId,
    /// The day of `at`.
    pub day: LogDay,
    /// The subject under which the log files it.
    pub subject: Subject,
    /// When.
    pub at: WallTime,
    /// What makes it unique.
    pub digest: FactDigest,
    /// Whether `at` is the time of arrival: then a redelivery would have another `at`.
    pub arrived: bool,
    /// The codec's byte, then the codec's bytes.
    pub payload: Vec<u8>,
}

/// The payload is damaged, or written by a codec that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the log cannot be read; was it written by a newer checkind?")]
pub struct UnreadableFact;

/// The content of the bytes. New variants and codecs are added at the end; existing ones never change.
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
    Edit {
        made: WallTime,
        visit: [u8; 16],
        source: CheckinSource,
        by: &'a str,
        was: Option<TimeSpan>,
        edit: Edit,
    },
}

/// A point as differences in milliseconds: to the previous point, within the point, and for `since` only when it
/// changes.
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

/// Packs a device's points that are not in the log yet. Their first instant is stored beside the bytes.
pub fn pack_points(points: &[Point], at: WallTime) -> Vec<u8> {
    encoded(&packed(points, at))
}

/// Reverses [`pack_points`].
pub fn unpack_points(bytes: &[u8], at: WallTime) -> Result<Vec<Point>, UnreadableFact> {
    decoded(bytes).map(|stored: Vec<StoredPoint>| unpacked(stored, at))
}

/// Encodes plain data as bytes, after the codec's byte.
pub fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    encoded_by(CODEC, value)
}

/// Reverses [`encoded`].
pub fn decoded<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, UnreadableFact> {
    decoded_by(CODEC, bytes)
}

/// Encodes plain data as bytes, after the byte of this codec.
pub fn encoded_by<T: Serialize>(codec: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![codec]).expect("plain data can be encoded")
}

/// Reverses [`encoded_by`].
pub fn decoded_by<'a, T: Deserialize<'a>>(codec: u8, bytes: &'a [u8]) -> Result<T, UnreadableFact> {
    match bytes.split_first() {
        Some((known, rest)) if *known == codec => postcard::from_bytes(rest).map_err(|_| UnreadableFact),
        Some(_) | None => Err(UnreadableFact),
    }
}

impl Fact {
    /// The fact as the columns of its row.
    pub fn stored(&self) -> StoredFact {
        match self {
            Self::Door(door) => {
                let shown =
                    door.shown.as_ref().map(|shown| (shown.kind, shown.scope.as_deref(), shown.value.as_deref()));
                let payload = Payload::Door {
                    source: &door.source,
                    ordinal: door.ordinal,
                    quality: door.quality,
                    // A difference to `at`, which takes fewer bytes than a second instant.
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
            Self::UnknownDevice(device) => {
                let (mac, at) = (device.mac.octets(), device.point.last_at);
                let points = packed(&[device.point], at);
                let (interface, recognised) = (&*device.interface, device.recognised);
                let payload = Payload::StrangeDevice { interface, mac, recognised, points };
                // Business and address determine the subject, so `read` need not restore it.
                let subject = Subject::unknown_device(device.business, device.mac);
                let digest = device.point.place(device.business, device.mac).digest;
                stored(device.business, FactKey::of(subject, at, digest), &payload)
            }
            Self::Rejected(rejected) => {
                let payload =
                    Payload::Rejected { source: &rejected.source, topic: &rejected.topic, why: &rejected.why };
                let key = FactKey::of(Subject::BUSINESS, rejected.at, rejected.digest);
                stored(rejected.business, key, &payload)
            }
            Self::Edit(edit) => {
                let payload = Payload::Edit {
                    made: edit.made,
                    visit: edit.visit.into_bytes(),
                    source: edit.source,
                    by: &edit.by,
                    was: edit.was,
                    edit: edit.edit.clone(),
                };
                stored(edit.business, edit.key(), &payload)
            }
        }
    }

    /// Reads the fact in a row.
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
                // The first point determines the fact's instant and digest.
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
                Self::UnknownDevice(StrangeDeviceFact {
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
            Payload::Edit { made, visit, source, by, was, edit } => Self::Edit(EditFact {
                business,
                subject,
                made,
                digest,
                visit: Uuid::from_bytes(visit),
                source,
                by: by.into(),
                was,
                edit,
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
    fn what_a_newer_program_wrote_is_no_fact() {
        let mut row = Fact::Door(tap("8165538")).stored();
        row.payload[0] = 99;
        assert_eq!(Fact::read(&row), Err(UnreadableFact));
        row.payload.clear();
        assert_eq!(Fact::read(&row), Err(UnreadableFact));
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
