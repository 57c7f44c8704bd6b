//! PURE. Finds the coworker, card or device that an operator names.

use crate::{
    base::{
        card::spellings_of_card,
        mac::MacAddr,
        plain::plain,
        record::CoworkerId,
        sighting::{Credential, CredentialKind},
    },
    directory::{Directory, Match},
};

/// Why the text names no single coworker, card or device.
#[derive(Debug, thiserror::Error)]
pub enum WhoError {
    /// The text is empty.
    #[error(
        "give a card as the reader reads it, a slot as in an import file (source/door/5), a device's MAC address, or a \
         coworker's number or name"
    )]
    Nothing,
    /// Several people share this name.
    #[error("more than one coworker is called \"{0}\"; give the number instead")]
    Several(String),
}

/// What the operator named, and the coworker it belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum AskedAbout<'d> {
    /// A card or fob, or a slot, user id or name with its scope.
    Card(Match<'d>),
    /// A device.
    Device(MacAddr, Match<'d>),
    /// A coworker's number or name, or a text that matches nothing.
    Person(Match<'d>),
}

/// The text without surrounding spaces; an error if nothing is left.
pub(super) fn asked(who: &str) -> Result<&str, WhoError> {
    let who = who.trim();
    if who.is_empty() { Err(WhoError::Nothing) } else { Ok(who) }
}

/// Looks the text up as a card, then as a scoped credential, a MAC address, a coworker's number and a name.
pub(super) fn find<'d>(directory: &'d Directory, who: &str) -> Result<AskedAbout<'d>, WhoError> {
    let by_card = directory.by_credential(&credential(CredentialKind::Card, None, who));
    let by_card = if by_card == Match::NoOne { directory.by_scoped_text(who) } else { by_card };
    if by_card != Match::NoOne {
        return Ok(AskedAbout::Card(by_card));
    }
    if let Ok(mac) = who.parse::<MacAddr>() {
        return Ok(AskedAbout::Device(mac, directory.by_mac(mac)));
    }
    // A card number may have leading zeros, a coworker's number has none.
    let number = who.parse().ok().filter(|id: &i64| id.to_string() == who);
    let numbered = number.and_then(|id| directory.coworker(CoworkerId(id)));
    match numbered.map_or_else(|| directory.by_name(who), Match::One) {
        Match::Several => Err(WhoError::Several(plain(who))),
        found @ (Match::NoOne | Match::One(_)) => Ok(AskedAbout::Person(found)),
    }
}

pub(super) fn credential(kind: CredentialKind, scope: Option<String>, value: &str) -> Credential {
    Credential { kind, scope, value: value.to_owned(), spellings: spellings_of_card(value) }
}
