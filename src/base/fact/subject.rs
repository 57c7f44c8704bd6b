//! PURE. The subject under which the log files a fact, and how the directory found it.

use serde::{Deserialize, Serialize};

use super::digest::FactDigest;
use crate::base::{
    mac::MacAddr,
    record::{BusinessId, CoworkerId},
    sighting::{Credential, DoorKey},
};

/// The subject under which the log files a fact: a coworker (above zero), a credential or device that does not belong
/// to exactly one person (below zero), or the business as a whole (zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(pub i64);

impl Subject {
    /// Facts that identify no person: buttons, contacts, messages that could not be mapped.
    pub const BUSINESS: Self = Self(0);

    /// A coworker.
    pub const fn coworker(id: CoworkerId) -> Self {
        Self(id.0)
    }

    /// A credential that belongs to no person, or to more than one. `key` is the directory's secret: without it, short
    /// numbers could be recovered from the log.
    pub fn unknown_credential(business: BusinessId, credential: &Credential, key: &str) -> Self {
        let kind = [credential.kind as u8];
        let scope = credential.scope.as_deref().unwrap_or_default();
        let parts = [key.as_bytes(), &business.0.to_be_bytes(), &kind, scope.as_bytes(), credential.value.as_bytes()];
        Self::below_zero(FactDigest::of(parts))
    }

    /// People refused at a door without a credential that identifies them: a wrong PIN, an unreadable card.
    pub fn unidentified_at(business: BusinessId, door: &DoorKey) -> Self {
        Self::below_zero(FactDigest::of([b"door".as_slice(), &business.0.to_be_bytes(), door.0.as_bytes()]))
    }

    /// A device that belongs to no person, or to more than one.
    pub fn unknown_device(business: BusinessId, mac: MacAddr) -> Self {
        Self::below_zero(FactDigest::of([b"device".as_slice(), &business.0.to_be_bytes(), &mac.octets()]))
    }

    fn below_zero(digest: FactDigest) -> Self {
        // With its highest bit cleared the number can be negated.
        Self(-(digest.number().cast_signed() & i64::MAX).max(1))
    }

    /// The coworker, if it is one.
    pub fn as_coworker(self) -> Option<CoworkerId> {
        (self.0 > 0).then_some(CoworkerId(self.0))
    }
}

/// How the directory of that time recognised the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Recognised {
    /// One person: the fact's subject.
    Coworker,
    /// Nothing was presented, or the event identifies no person.
    NoCredential,
    /// A credential that belongs to no person.
    Unknown,
    /// A credential that belongs to more than one person.
    Ambiguous,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sighting::CredentialKind;

    #[test]
    fn strangers_are_below_zero_and_differ() {
        let card = |value: &str| Credential {
            kind: CredentialKind::Card,
            scope: None,
            value: value.to_owned(),
            spellings: Vec::new(),
        };
        let subject = |value: &str| Subject::unknown_credential(BusinessId(1), &card(value), "key");
        assert!(subject("1").0 < 0 && subject("1") != subject("2"));
        assert_eq!(subject("1").as_coworker(), None);
    }
}
