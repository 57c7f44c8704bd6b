//! PURE. What a door controller reported, as the log stores it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    digest::FactDigest,
    order::{FactKey, FactOrder, FactRank},
    subject::{Recognised, Subject},
};
use crate::base::{
    clock::WallTime,
    mac::MacAddr,
    record::BusinessId,
    sighting::{
        Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Refusal, Sighting, TimeQuality,
    },
};

/// What was presented at a reader, as the log stores it: enough to assign an unknown card, but never a PIN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownCredential {
    /// Card, PIN, slot, user, name or device.
    pub kind: CredentialKind,
    /// The source or lock in which it has a meaning.
    pub scope: Option<String>,
    /// The text as the controller sent it; `None` if it is or may be a PIN.
    pub value: Option<String>,
}

/// The most digits of a PIN. A card number with no more digits may be one: some keypads send the PIN as the card
/// number.
pub const LONGEST_PIN: usize = 6;

impl ShownCredential {
    fn of(credential: &Credential) -> Self {
        let value = &credential.value;
        let short = value.len() <= LONGEST_PIN && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let hidden = match credential.kind {
            CredentialKind::Pin => true,
            CredentialKind::Card => short,
            CredentialKind::Slot | CredentialKind::User | CredentialKind::Name | CredentialKind::Device => false,
        };
        Self { kind: credential.kind, scope: credential.scope.clone(), value: (!hidden).then(|| value.clone()) }
    }

    /// The credential as text for people.
    pub fn text(&self) -> String {
        match (&self.value, self.kind) {
            (Some(value), _) => value.clone(),
            (None, CredentialKind::Pin) => "PIN".to_owned(),
            (None, _) => "PIN or short number".to_owned(),
        }
    }
}

/// What a door controller reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorFact {
    /// Where.
    pub business: BusinessId,
    /// When: the controller's time if it is trusted, otherwise the time of arrival.
    pub at: WallTime,
    /// Whose clock `at` is.
    pub quality: TimeQuality,
    /// When it reached us.
    pub arrived: WallTime,
    /// The subject under which the log files it.
    pub subject: Subject,
    /// How the subject was found.
    pub recognised: Recognised,
    /// The digest of source, key and content.
    pub digest: FactDigest,
    /// The controller's number of the event, if its key has one. It orders events of the same second.
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
    /// Whether it arrived too late to be decided: then it is recorded, but never folded.
    pub too_late: bool,
}

impl DoorFact {
    /// The fact for a sighting, filed under this subject.
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

    /// Whether its time is only the time of arrival.
    pub fn has_arrival_time(&self) -> bool {
        self.quality == TimeQuality::Arrival
    }

    /// Its key in the log.
    pub fn key(&self) -> FactKey {
        FactKey { arrived: self.has_arrival_time(), ..FactKey::of(self.subject, self.at, self.digest) }
    }

    /// Its place in the order of time.
    pub const fn place(&self) -> FactOrder {
        FactOrder { at: self.at, rank: FactRank::Door, ordinal: self.ordinal, digest: self.digest }
    }

    /// The device that was shown, if it was one.
    pub fn shown_device(&self) -> Option<MacAddr> {
        let device = self.shown.as_ref().filter(|shown| shown.kind == CredentialKind::Device)?;
        device.value.as_deref().and_then(|value| value.parse().ok())
    }

    /// What the debounce compares: equal for reads of the same credential at the same reader with the same answer.
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

/// The controller's number of an event: the trailing digits of the last part of its key that is neither a time nor a
/// digest.
fn ordinal_of(key: &str) -> u64 {
    const DIGEST: usize = 32;
    let number = |part: &str| {
        let is_digest = part.len() == DIGEST && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = part.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        part.get(digits..).filter(|_| !is_digest && !part.contains(':')).and_then(|digits| digits.parse().ok())
    };
    key.rsplit('/').find_map(number).unwrap_or(0)
}

/// The digest of a message without its time: the controller's key of the event, and everything that distinguishes two
/// events. The same key with different content is another event.
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
    /// Marks an exit by a toggle door at a business, among the taps of a person.
    pub fn toggled_out(business: BusinessId) -> Self {
        Self(FactDigest::of([business.0.to_be_bytes().as_slice(), b"toggled out"]).number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_second_come_in_the_order_of_their_numbers() {
        for (key, number) in [
            ("front/405419896/9", 9),
            ("front/405419896/10", 10),
            ("front/405419896/10/2026-03-02 09:00:00 PST", 10),
            ("flat/side/2026-03-02T09:00:00+01:30/n17", 17),
            // A digest is not a number, even if it ends with digits.
            ("front/0123456789abcdef0123456789abc711", 0),
            ("x", 0),
            ("", 0),
            ("99999999999999999999999", 0),
        ] {
            assert_eq!(ordinal_of(key), number, "{key}");
        }
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
}
