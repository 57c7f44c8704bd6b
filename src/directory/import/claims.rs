//! PURE. The owners of credentials in an import: which credentials two people have, and which a person loses.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::device;
use crate::{
    base::{card::spellings_of_card, mac::MacAddr, sighting::CredentialKind},
    directory::{
        entity::{CoworkerEntity, CredentialField},
        scoped,
    },
};

/// The most people named for one shared credential: the first few are enough to start asking.
const NAMED: usize = 5;

/// The credentials of everyone who is not archived, as they will be after the import.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Each person as named in messages: `Ada (coworker 1, site.json: Coworkers[0])`.
    people: BTreeMap<i64, Box<str>>,
    /// The first owner of each credential.
    first: BTreeMap<CredentialClaim, i64>,
    spellings: BTreeMap<Box<str>, Readings>,
    /// The owners of each credential that more than one person has. The key is its name in messages and, if that does
    /// not show the value, the value as stored.
    shared: BTreeMap<(String, String), BTreeSet<i64>>,
}

/// A credential that only one person can have.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CredentialClaim {
    Mac(MacAddr),
    Card(Box<str>),
    Pin(Box<str>),
    Slot(Box<str>),
    User(Box<str>),
    Name(Box<str>),
}

/// The first owners of cards with this form, by how the text was read. A text of digits may be a decimal or a
/// hexadecimal number: two such texts are the same card only if they are the same number both ways. Otherwise every
/// list of small numbers would be full of ambiguities.
#[derive(Debug, Default)]
struct Readings {
    /// A text that is not all digits.
    sure: Option<i64>,
    /// All digits, read as a decimal number.
    decimal: Option<i64>,
    /// All digits, read as anything else.
    other: Option<i64>,
}

impl Claims {
    /// Adds a person and their credentials; `place` is where they are in the import.
    pub(super) fn add(&mut self, coworker: &CoworkerEntity, place: &str) {
        let CoworkerEntity { id, full_name, .. } = coworker;
        self.people.insert(*id, format!("{full_name} (coworker {id}, {place})").into());
        for (field, value) in coworker.credentials() {
            let Some(claim) = CredentialClaim::of(field, value) else { continue };
            if let Some(other) = self.claim(claim, *id).filter(|other| other != id) {
                let unseen = if field.kind() == Some(CredentialKind::Pin) { value } else { "" };
                let shared = self.shared.entry((called(field, value), unseen.to_owned())).or_default();
                shared.extend([other, *id]);
            } else if field.kind() == Some(CredentialKind::Card) {
                self.claim_spellings(value, *id);
            }
        }
    }

    /// Returns a line for each credential that more than one person has.
    pub(super) fn shared(self) -> impl Iterator<Item = String> {
        let Self { people, shared, .. } = self;
        shared.into_iter().map(move |((what, _), ids)| {
            let named = ids.iter().take(NAMED).map(|id| people.get(id).map_or_else(String::new, ToString::to_string));
            let mut named: Vec<String> = named.collect();
            if ids.len() > NAMED {
                named.push(format!("{} more", ids.len() - NAMED));
            }
            let last = named.pop().unwrap_or_default();
            let others = named.join(", ");
            format!("{what} belongs to {others} and {last}: it checks no one in until only one of them has it")
        })
    }

    /// Returns the owner of a credential; if it has none, this person becomes its owner.
    fn claim(&mut self, claim: CredentialClaim, id: i64) -> Option<i64> {
        match self.first.entry(claim) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(free) => {
                free.insert(id);
                None
            }
        }
    }

    /// Registers the forms of a card, to find two people who have the same card in decimal and in hexadecimal.
    fn claim_spellings(&mut self, card: &str, id: i64) {
        let digits = card.bytes().all(|byte| byte.is_ascii_digit());
        let decimal = card.parse().ok().map(|number: u128| format!("#{number:x}"));
        for form in spellings_of_card(card) {
            let as_decimal = digits && decimal.as_ref() == Some(&form);
            let Readings { sure, decimal, other } = self.spellings.entry(form.into()).or_default();
            let (same, theirs) = match (digits, as_decimal) {
                (false, _) => ([*sure, *decimal, *other], sure),
                (true, true) => ([*sure, *decimal, None], decimal),
                (true, false) => ([*sure, None, None], other),
            };
            theirs.get_or_insert(id);
            let others: BTreeSet<i64> = same.into_iter().flatten().filter(|other| *other != id).collect();
            if !others.is_empty() {
                let what = (format!("card {card}, in one spelling or another,"), String::new());
                self.shared.entry(what).or_default().extend(others.into_iter().chain([id]));
            }
        }
    }
}

impl CredentialClaim {
    /// The credential in a field; `None` if no reader or frame can show it.
    fn of(field: CredentialField, value: &str) -> Option<Self> {
        let scoped = |kind| scoped::key_of_text(kind, value).map(Into::into);
        Some(match field.kind() {
            None | Some(CredentialKind::Device) => Self::Mac(device(value).ok()?),
            Some(CredentialKind::Card) => Self::Card(value.to_lowercase().into()),
            Some(CredentialKind::Pin) => Self::Pin(value.into()),
            Some(kind @ CredentialKind::Slot) => Self::Slot(scoped(kind)?),
            Some(kind @ CredentialKind::User) => Self::User(scoped(kind)?),
            Some(kind @ CredentialKind::Name) => Self::Name(scoped(kind)?),
        })
    }
}

/// The name of a credential in messages. A PIN is never shown.
fn called(field: CredentialField, value: &str) -> String {
    let scoped = |kind| scoped::key_of_text(kind, value).unwrap_or_else(|| value.to_owned());
    match field.kind() {
        None | Some(CredentialKind::Device) => {
            format!("device {}", device(value).map_or_else(|_| value.to_owned(), |mac| mac.to_string()))
        }
        Some(CredentialKind::Card) => format!("card {}", value.to_lowercase()),
        Some(CredentialKind::Pin) => "a PIN".to_owned(),
        Some(kind @ CredentialKind::Slot) => format!("slot {}", scoped(kind)),
        Some(kind @ CredentialKind::User) => format!("user {}", scoped(kind)),
        Some(kind @ CredentialKind::Name) => format!("name {}", scoped(kind)),
    }
}

/// Whether this person had a credential that they no longer have.
pub(super) fn loses(before: &CoworkerEntity, after: &CoworkerEntity) -> bool {
    let claims = |of: &CoworkerEntity| -> BTreeSet<CredentialClaim> {
        of.credentials().filter_map(|(field, value)| CredentialClaim::of(field, value)).collect()
    };
    !claims(before).is_subset(&claims(after))
}
