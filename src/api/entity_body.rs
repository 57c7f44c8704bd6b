//! PURE. A command about an entity of the directory as an import file, and the faults of that import as faults of the
//! command.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

use super::{command_body::CommandBody, documents::READ_ONLY, fault::FieldFault};
use crate::directory::{
    entity::{CredentialField, EntityKind},
    import::meant,
};

/// What messages of the import call the body of the command.
const NAME: &str = "body";

/// The fields of an entity, as a client wrote them.
#[derive(Debug)]
pub(super) struct EntityFields {
    kind: EntityKind,
    /// JSON by key, in the spelling of the documents.
    fields: BTreeMap<String, String>,
    /// Keys that occur twice in different case.
    repeated: Vec<String>,
}

impl EntityFields {
    /// Takes all fields of a body but its id. `known` are keys of the stored document.
    pub(super) fn of(kind: EntityKind, body: &CommandBody, known: &[&String]) -> Self {
        let mut taken = Self { kind, fields: BTreeMap::new(), repeated: Vec::new() };
        for (name, json) in body.rest() {
            let is_this = |key: &str| key.eq_ignore_ascii_case(name.trim());
            if READ_ONLY.into_iter().any(is_this) {
                continue;
            }
            // The stored spelling first: the platform has two of one key.
            let stored = known.iter().map(|key| key.as_str()).find(|key| is_this(key));
            let key = stored.or_else(|| kind.keys().iter().copied().find(|key| is_this(key)));
            let key = key.unwrap_or(name.trim()).to_owned();
            let json = spelled(kind, &key, json);
            if taken.fields.insert(key.clone(), json).is_some() {
                taken.repeated.push(key);
            }
        }
        taken
    }

    /// The import file with this entity alone.
    pub(super) fn import_file(&self, id: i64) -> String {
        let mut entity: BTreeMap<&str, &RawValue> = BTreeMap::new();
        let id = id.to_string();
        for (key, json) in self.fields.iter().map(|(key, json)| (key.as_str(), json)).chain([("Id", &id)]) {
            // What the body held was JSON, and so is what became of it.
            if let Ok(raw) = serde_json::from_str(json) {
                entity.insert(key, raw);
            }
        }
        let file = BTreeMap::from([(self.kind.array(), [entity])]);
        serde_json::to_string(&file).expect("texts and JSON")
    }

    /// The faults that need no import: keys that occur twice, and those that are missing. An empty text is none.
    pub(super) fn faults(&self, is_new: bool) -> Vec<FieldFault> {
        let repeated = self.repeated.iter().map(|key| FieldFault::new(key, None, "is in the body twice"));
        let is_empty = |json: &String| json == "null" || json == "\"\"";
        let is_missing = |key: &&&str| **key != "Id" && self.fields.get(**key).map_or(is_new, is_empty);
        let missing = self.kind.required().iter().filter(is_missing);
        repeated.chain(missing.map(|key| FieldFault::new(key, None, "is a required field"))).collect()
    }

    /// A fault of the import as one of the command.
    pub(super) fn fault(&self, line: &str) -> FieldFault {
        let entity = format!("{NAME}: {}[0]", self.kind.array());
        let Some(rest) = line.strip_prefix(&entity) else { return FieldFault::new(NAME, None, line.to_owned()) };
        let (key, message) = rest.split_once(": ").unwrap_or((NAME, rest));
        let path = key.trim_start_matches('.');
        if path.is_empty() {
            return FieldFault::new(NAME, None, message.to_owned());
        }
        let field = path.split(['[', '.']).next().unwrap_or(path);
        let value = self.fields.get(field).filter(|_| field != CredentialField::AccessPincode.key());
        let text = value.map(|json| serde_json::from_str::<String>(json).unwrap_or_else(|_| json.clone()));
        FieldFault::new(path, text.as_deref(), message.to_owned())
    }

    /// The name of the import file in messages.
    pub(super) const fn file_name() -> &'static str {
        NAME
    }
}

/// The JSON of a field as an import reads it. What is fine as it was written keeps every digit.
fn spelled(kind: EntityKind, key: &str, json: String) -> String {
    let Ok(value) = serde_json::from_str::<Value>(&json) else { return json };
    let read = meant(kind, key, value.clone());
    if read == value { json } else { read.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(kind: EntityKind, text: &str, known: &[&str]) -> EntityFields {
        let mut body = CommandBody::read(None, text.as_bytes()).expect("a body");
        body.id("Id");
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        EntityFields::of(kind, &body, &known.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_body_becomes_an_import_in_the_spelling_of_the_documents() {
        for (text, known, expected) in [
            (
                r#"{"id": "7", "fullname": "Ada", "TARIFFID": "5", "accesscardid": 12345678901234567890123, "teams": [{"Id": 1}]}"#,
                &[][..],
                r#"{"Coworkers":[{"AccessCardId":12345678901234567890123,"FullName":"Ada","Id":7,"TariffId":5,"Teams":[{"Id": 1}]}]}"#,
            ),
            (
                "FULLNAME=Ada&tariffid=&ACTIVE=True&nickname=A&CreatedOn=x&byhand=y&updatedby=z",
                &["Nickname"],
                r#"{"Coworkers":[{"Active":true,"FullName":"Ada","Id":7,"Nickname":"A","TariffId":null}]}"#,
            ),
        ] {
            assert_eq!(fields(EntityKind::Coworker, text, known).import_file(7), expected, "{text}");
        }
    }

    #[test]
    fn every_kind_declares_its_keys() {
        for kind in EntityKind::ALL {
            for key in kind.required() {
                assert!(kind.keys().contains(key), "{key} of {kind:?} in {:?}", kind.keys());
            }
        }
        assert!(EntityKind::Coworker.keys().contains(&"AllowNetworkCheckin"));
    }

    #[test]
    fn faults_of_an_import_name_their_field() {
        let fields = fields(
            EntityKind::Coworker,
            r#"{"MacAddresses": "x", "AccessPincode": "1,5", "fullname": "A", "FullName": "B"}"#,
            &[],
        );
        let said = |fault: &FieldFault| {
            format!("{}|{}|{}", fault.property_name, fault.message, fault.attempted_value.as_deref().unwrap_or("-"))
        };
        for (line, expected) in [
            ("body: Coworkers[0].MacAddresses: \"x\" is no address", "MacAddresses|\"x\" is no address|x"),
            ("body: Coworkers[0].AccessPincode: the value is wrong", "AccessPincode|the value is wrong|-"),
            ("body: Coworkers[0].TimeSlots[1].ToTime: is wrong", "TimeSlots[1].ToTime|is wrong|-"),
            ("body: Coworkers[0]: a text contains a NUL", "body|a text contains a NUL|-"),
            ("stored: odd", "body|stored: odd|-"),
        ] {
            assert_eq!(said(&fields.fault(line)), expected, "{line}");
        }
        let own: Vec<String> = fields.faults(true).iter().map(said).collect();
        assert_eq!(own, ["FullName|is in the body twice|-"]);
        let own: Vec<String> =
            super::tests::fields(EntityKind::CoworkerTimePass, "{}", &[]).faults(true).iter().map(said).collect();
        assert_eq!(own, ["CoworkerId|is a required field|-", "TimePassId|is a required field|-"]);
    }
}
