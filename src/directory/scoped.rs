//! PURE. Slots, users and names: credentials that only mean something within a scope, and how people write them.
//!
//! A reader sends scope and value separately; an import contains them as one text, `scope/value`. Both become the same
//! key here.
//!
//! | type | scope, where `card.scope` says nothing | written | the scope ends at |
//! |---|---|---|---|
//! | slot | source and door: each lock counts its own | `locks/back-door/5` | the last `/` |
//! | user | source | `cam/17` | the first `/` |
//! | name | source | `cam/Ada Example` | the first `/` |
//!
//! Scopes are compared exactly, values without regard to case, and numbers of slots without leading zeros.

use crate::base::sighting::CredentialKind;

/// The key of a credential that a reader sent. `None` for cards, PINs and devices, which have no scope, and for anything that an
/// import cannot express: a slot with a `/`, a user or name in a scope with one, or anything without a scope.
pub fn key(kind: CredentialKind, scope: Option<&str>, value: &str) -> Option<String> {
    let (scope, value) = (scope?, value.trim());
    let writable = match kind {
        CredentialKind::Card | CredentialKind::Pin | CredentialKind::Device => false,
        CredentialKind::Slot => !value.contains('/'),
        CredentialKind::User | CredentialKind::Name => !scope.contains('/'),
    };
    if !writable || scope.is_empty() || value.is_empty() {
        return None;
    }
    let number = kind == CredentialKind::Slot && value.bytes().all(|byte| byte.is_ascii_digit());
    let value = if number { value.trim_start_matches('0') } else { value };
    let value = if value.is_empty() { "0" } else { value };
    Some(format!("{scope}/{}", value.to_lowercase()))
}

/// The scope and value of a text that a person wrote; `None` if it has no scope, or if the type does not use one.
pub fn parts(kind: CredentialKind, text: &str) -> Option<(&str, &str)> {
    let (scope, value) = match kind {
        CredentialKind::Card | CredentialKind::Pin | CredentialKind::Device => None,
        CredentialKind::Slot => text.rsplit_once('/'),
        CredentialKind::User | CredentialKind::Name => text.split_once('/'),
    }?;
    let (scope, value) = (scope.trim(), value.trim());
    (!scope.is_empty() && !value.is_empty()).then_some((scope, value))
}

/// The key of a text that a person wrote; `None` if it has no scope.
pub fn key_of_text(kind: CredentialKind, text: &str) -> Option<String> {
    let (scope, value) = parts(kind, text)?;
    key(kind, Some(scope), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_says_and_what_a_person_writes_is_one_key() {
        use CredentialKind::{Card, Name, Pin, Slot, User};
        for (kind, scope, value, written) in [
            (Slot, "locks/back-door", "5", "locks/back-door/5"),
            (Slot, "back-door", "5", "back-door / 05"),
            (Slot, "back-door", "0", "back-door/0"),
            (User, "cam", "Bob@Example", "cam/bob@example"),
            (User, "cam", "007", "cam/007"),
            (Name, "cam", "R&D/Bob", "cam/R&D/BOB"),
        ] {
            let said = key(kind, Some(scope), value);
            assert!(said.is_some() && said == key_of_text(kind, written), "{scope} {value} {written}: {said:?}");
        }
        assert_ne!(key_of_text(User, "cam/7"), key_of_text(User, "cam/007"), "a user id is a text, so zeros count");
        for (kind, scope, value) in [
            (Card, Some("cam"), "5"),
            (Pin, Some("cam"), "5"),
            (Slot, None, "5"),
            (Slot, Some("cam"), "door/5"),
            (Name, Some("cam/a"), "b"),
            (Name, Some("cam"), " "),
        ] {
            assert_eq!(key(kind, scope, value), None, "{kind:?} {scope:?} {value}");
        }
        for text in ["5", "/5", "cam/", "", "/"] {
            assert_eq!(key_of_text(Slot, text), None, "{text}");
        }
    }
}
