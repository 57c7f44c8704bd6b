//! Lookups in a directory that was built from the documents of an import.

use super::{Builder, Directory, Match, entity, import};
use crate::base::{
    record::{BusinessId, CoworkerId},
    sighting::{Credential, CredentialKind},
};

fn directory(json: &str) -> Directory {
    let import = import::read_json(json, "key").expect("imports");
    let mut builder = Builder::new(1, "key");
    for document in import.documents {
        builder.add(document.kind.read_text(&document.body).expect("reads"));
    }
    builder.build()
}

fn card(value: &str, spellings: &[&str]) -> Credential {
    Credential {
        kind: CredentialKind::Card,
        scope: None,
        value: value.to_owned(),
        spellings: spellings.iter().map(|&spelling| spelling.to_owned()).collect(),
    }
}

fn name(found: Match<'_>) -> &str {
    match found {
        Match::NoOne => "no one",
        Match::One(coworker) => &coworker.full_name,
        Match::Several => "several",
    }
}

const SITE: &str = r#"{
    "Businesses": [{"Id": 1, "Name": "Hub One"}],
    "Tariffs": [{"Id": 5, "Name": "Full time"}],
    "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1]}, {"Id": 9, "Name": "Anvil"}],
    "Coworkers": [
        {"Id": 2, "FullName": "Bob", "AccessCardId": "85CCC7, DEAD01", "AccessPincode": "4711", "Businesses": [{"Id": 1}]},
        {"Id": 1, "FullName": "Ada", "AccessCardId": "8165538", "KeyFobNumber": 99, "TariffId": 5, "Teams": [9],
         "MacAddresses": "3c:22:fb:00:00:01,3c:22:fb:00:00:02"},
        {"Id": 3, "FullName": "Eve", "AccessCardId": "dead01", "MacAddresses": "3c:22:fb:00:00:02", "InvoicingBusinessId": 4}
    ]
}"#;

#[test]
fn a_card_is_found_as_written_then_by_its_other_spellings() {
    let site = directory(SITE);
    assert_eq!(name(site.by_credential(&card("8165538", &[]))), "Ada");
    assert_eq!(name(site.by_credential(&card("85ccc7", &[]))), "Bob");
    assert_eq!(name(site.by_credential(&card("8768711", &["#85ccc7"]))), "Bob");
    assert_eq!(name(site.by_credential(&card("99", &[]))), "Ada");
    assert_eq!(name(site.by_credential(&card("1", &["#1"]))), "no one");
}

#[test]
fn no_one_matches_when_two_people_claim_the_same() {
    let site = directory(SITE);
    assert_eq!(name(site.by_credential(&card("DEAD01", &[]))), "several");
    assert_eq!(name(site.by_mac("3c:22:fb:00:00:02".parse().expect("mac"))), "several");
    assert_eq!(name(site.by_mac("3c:22:fb:00:00:01".parse().expect("mac"))), "Ada");
    assert_eq!(name(site.by_mac("3c:22:fb:00:00:03".parse().expect("mac"))), "no one");
}

#[test]
fn a_pin_is_found_by_its_digest() {
    let site = directory(SITE);
    let pin = Credential { kind: CredentialKind::Pin, ..card("4711", &[]) };
    assert_eq!(name(site.by_credential(&pin)), "Bob");
}

#[test]
fn a_pin_with_an_address_is_of_one_person_where_the_pin_alone_is_not() {
    let people = r#"[
        {"Id": 1, "FullName": "Ada", "Email": " Ada@Example.com", "AccessPincode": "4711, 12"},
        {"Id": 2, "FullName": "Bob", "Email": "bob@example.com", "AccessPincode": 4711},
        {"Id": 3, "FullName": "Eve", "Email": "bob@example.com", "AccessPincode": "13"},
        {"Id": 4, "FullName": "Dan", "Email": 7, "AccessPincode": "14"},
        {"Id": 5, "FullName": "Fay", "Email": "fay@example.com"},
        {"Id": 6, "FullName": "Gus", "Email": "gus@example.com", "AccessPincode": "15"},
        {"Id": 7, "FullName": "Hal", "Email": "GUS@example.com", "AccessPincode": "15"}
    ]"#;
    let mut builder = Builder::new(1, "key");
    for person in serde_json::from_str::<Vec<serde_json::Value>>(people).expect("JSON") {
        builder.add(entity::EntityKind::Coworker.read(person).expect("reads"));
    }
    let site = builder.build();
    for (email, pin, expected) in [
        ("", "4711", "several"),
        ("", "12", "Ada"),
        ("ada@example.com", "4711", "Ada"),
        ("ADA@example.com ", "12", "Ada"),
        ("bob@example.com", "4711", "Bob"),
        ("bob@example.com", "13", "Eve"),
        ("bob@example.com", "12", "no one"),
        ("7", "14", "no one"),
        ("fay@example.com", "", "no one"),
        ("gus@example.com", "15", "several"),
    ] {
        let value = if email.is_empty() { pin.to_owned() } else { site.pin_of_email(email, pin) };
        let shown = Credential { kind: CredentialKind::Pin, ..card(&value, &[]) };
        assert_eq!(name(site.by_credential(&shown)), expected, "{email} {pin}");
    }
}

#[test]
fn a_type_never_matches_another_and_a_slot_only_in_its_scope() {
    use CredentialKind::{Card, Device, Name, Pin, Slot, User};
    let people = r#"[
        {"Id": 1, "FullName": "Ada", "Slots": "locks/back/3, locks/back/04", "AccessPincode": "5", "MacAddresses": "3c-22-fb-00-00-02"},
        {"Id": 2, "FullName": "Bob", "Slots": "locks/front/3", "AccessNames": "cam/Bob", "AccessUsers": "cam/5"},
        {"Id": 3, "FullName": "Eve", "KeyFobNumber": "5", "AccessCardId": "cam/bob", "ByHand": {"Slots": "safe/1"}},
        {"Id": 4, "FullName": "Dan", "Slots": "locks/front/7", "AccessNames": "locks/front/7"},
        {"Id": 5, "FullName": "Fay", "AccessUsers": "locks/front/7", "Slots": "locks/side/1"},
        {"Id": 6, "FullName": "Gus", "Slots": "locks/side/01"},
        {"Id": 7, "FullName": "Old", "Slots": "locks/front/3,locks/old/1", "Archived": true}
    ]"#;
    let mut builder = Builder::new(1, "key");
    for person in serde_json::from_str::<Vec<serde_json::Value>>(people).expect("JSON") {
        builder.add(entity::EntityKind::Coworker.read(person).expect("reads"));
    }
    let site = builder.build();
    let owner = |kind, scope: &str, value: &str| {
        let scope = (!scope.is_empty()).then(|| scope.to_owned());
        name(site.by_credential(&Credential { kind, scope, ..card(value, &[]) }))
    };
    for (kind, scope, value, expected) in [
        (Slot, "locks/back", "3", "Ada"),
        (Slot, "locks/back", "4", "Ada"),
        (Slot, "locks/front", "03", "Bob"),
        (Slot, "locks", "3", "no one"),
        (Slot, "locks/front", "5", "no one"),
        (Slot, "", "5", "no one"),
        (Slot, "safe", "1", "Eve"),
        (Slot, "locks/side", "1", "several"),
        (Slot, "locks/old", "1", "Old"),
        (Card, "", "5", "Eve"),
        (Card, "cam", "5", "Eve"),
        (Card, "", "3", "no one"),
        (Card, "locks/back", "3", "no one"),
        (Pin, "keypad", "5", "Ada"),
        (Device, "", "3C:22:FB:00:00:02", "Ada"),
        (Device, "", "5", "no one"),
        (Card, "", "3c:22:fb:00:00:02", "no one"),
        (User, "cam", "5", "Bob"),
        (User, "door", "5", "no one"),
        (Name, "cam", "BOB", "Bob"),
        (Name, "door", "Bob", "no one"),
        (User, "cam", "Bob", "no one"),
    ] {
        assert_eq!(owner(kind, scope, value), expected, "{kind:?} {scope} {value}");
    }
    let written = ["locks/back/3", "cam/bob", "cam/5", "locks/front/7", "5", "locks/side/1"];
    let found = written.map(|text| name(site.by_scoped_text(text)));
    assert_eq!(found, ["Ada", "Bob", "Bob", "several", "no one", "several"]);
}

#[test]
fn what_a_record_keeps_of_a_person_is_joined_here() {
    let site = directory(SITE);
    let ada = site.coworker(CoworkerId(1)).expect("Ada");
    assert_eq!(ada.snapshot().teams.as_deref(), Some("Anvil,Rocket"));
    assert_eq!(ada.snapshot().tariff.as_deref(), Some("Full time"));
    assert!(ada.belongs_to(BusinessId(1)) && ada.belongs_to(BusinessId(77)), "of the whole network");
    let bob = site.coworker(CoworkerId(2)).expect("Bob");
    assert!(bob.belongs_to(BusinessId(1)) && !bob.belongs_to(BusinessId(4)));
    assert_eq!(site.business(BusinessId(1)), Some("Hub One"));
}
