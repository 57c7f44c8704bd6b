//! PURE. An entry of the log: a fact of any kind.

use std::sync::Arc;

use super::{
    digest::FactDigest,
    door::DoorFact,
    edit::EditFact,
    presence::{PresenceFact, StrangeDeviceFact},
};
use crate::base::{clock::WallTime, record::BusinessId};

/// A message that could not be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedFact {
    /// Where.
    pub business: BusinessId,
    /// When it arrived.
    pub at: WallTime,
    /// Random, because nothing distinguishes such messages.
    pub digest: FactDigest,
    /// The `[[source]]`.
    pub source: Arc<str>,
    /// The topic, with long numbers masked.
    pub topic: String,
    /// Why, as the word of a reject reason.
    pub why: String,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A door controller reported an event.
    Door(DoorFact),
    /// A coworker's device was seen.
    Presence(PresenceFact),
    /// A device that does not belong to exactly one person was seen.
    UnknownDevice(StrangeDeviceFact),
    /// A message could not be mapped.
    Rejected(RejectedFact),
    /// A user of the API said something about a check-in.
    Edit(EditFact),
}
