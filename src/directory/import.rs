//! PURE. An import file to entities, every fault at once; nothing is imported from a file with a fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value};

use super::{
    entity::{self, Entity, EntityKind},
    pin_digest,
};
use crate::mac::MacAddr;

/// What an import file holds, ready for the database.
#[derive(Debug, Default)]
pub struct Import {
    /// The documents, in the order of the file.
    pub documents: Vec<Document>,
    /// What is odd but no fault: an address that two people claim, a randomised address.
    pub warnings: Vec<String>,
}

/// One entity as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Which kind.
    pub kind: EntityKind,
    /// Its `Id`.
    pub id: i64,
    /// `Archived`.
    pub archived: bool,
    /// The whole document, its PINs replaced by digests.
    pub body: Value,
}

/// Why a file cannot be imported: every fault, with its path into the file.
#[derive(Debug, PartialEq, Eq)]
pub struct ImportFaults(pub Vec<String>);

impl fmt::Display for ImportFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ImportFaults {}

/// Faults reported at most: a file in a wrong shape has one per entity, and the first hundred tell as much.
const FAULTS: usize = 100;

/// The mark of a PIN that is stored as a digest.
pub(crate) const DIGEST_MARK: &str = "sha256:";

/// Reads the JSON of an import: one object of arrays, all optional (`design` section 7).
///
/// # Errors
/// Every fault of the file, up to a hundred.
pub fn read_json(text: &str, pin_key: &str) -> Result<Import, ImportFaults> {
    let file: Value = serde_json::from_str(text).map_err(|error| {
        ImportFaults(vec![format!("line {}, column {}: not JSON: {error}", error.line(), error.column())])
    })?;
    let Value::Object(arrays) = file else {
        return Err(ImportFaults(vec![format!("the file holds {}; an object of arrays is needed", kind_of(&file))]));
    };
    let mut reading =
        Reading { faults: Vec::new(), import: Import::default(), seen: BTreeSet::new(), macs: BTreeMap::new() };
    for name in arrays.keys() {
        if !EntityKind::ALL.iter().any(|kind| kind.array() == name) {
            let known: Vec<&str> = EntityKind::ALL.iter().map(|kind| kind.array()).collect();
            reading.faults.push(format!("{name}: no such list; there are {}", known.join(", ")));
        }
    }
    for kind in EntityKind::ALL {
        match arrays.get(kind.array()) {
            None | Some(Value::Null) => {}
            Some(Value::Array(entities)) => {
                for (at, entity) in entities.iter().enumerate() {
                    reading.entity(kind, &format!("{}[{at}]", kind.array()), entity, pin_key);
                }
            }
            Some(other) => reading.faults.push(format!("{}: {} where a list is needed", kind.array(), kind_of(other))),
        }
    }
    reading.finish()
}

struct Reading {
    faults: Vec<String>,
    import: Import,
    seen: BTreeSet<(EntityKind, i64)>,
    macs: BTreeMap<MacAddr, String>,
}

impl Reading {
    fn entity(&mut self, kind: EntityKind, path: &str, entity: &Value, pin_key: &str) {
        let Value::Object(fields) = entity else {
            self.faults.push(format!("{path}: {} where an object is needed", kind_of(entity)));
            return;
        };
        let read = match kind.read(entity.clone()) {
            Ok(read) => read,
            Err(error) => {
                self.faults.push(format!("{path}: {error}"));
                return;
            }
        };
        if has_nul(entity) {
            self.faults.push(format!("{path}: a text holds a NUL character, which no database can keep"));
        }
        let id = fields.get("Id").and_then(Value::as_i64).unwrap_or_default();
        if id <= 0 {
            self.faults.push(format!("{path}.Id: {id} is not a positive number"));
        }
        if !self.seen.insert((kind, id)) {
            self.faults.push(format!("{path}.Id: {id} stands in this list twice"));
        }
        if let Entity::Coworker(coworker) = &read {
            self.devices(path, coworker);
        }
        let body = Value::Object(without_pins(fields, pin_key));
        let archived = fields.get("Archived").and_then(Value::as_bool).unwrap_or(false);
        self.import.documents.push(Document { kind, id, archived, body });
    }

    fn devices(&mut self, path: &str, coworker: &entity::Coworker) {
        for text in entity::listed(coworker.mac_addresses.as_deref()) {
            let mac = match text.parse::<MacAddr>() {
                Ok(mac) if mac.is_station() => mac,
                Ok(mac) => {
                    self.faults.push(format!("{path}.MacAddresses: {mac} cannot be the address of one device"));
                    continue;
                }
                Err(error) => {
                    self.faults.push(format!("{path}.MacAddresses: {error}"));
                    continue;
                }
            };
            if mac.is_local() {
                self.import.warnings.push(format!(
                    "{path}.MacAddresses: {mac} is a randomised (locally administered) address; it may change, ask for the \
                     device's fixed address on this network"
                ));
            }
            if let Some(other) = self.macs.insert(mac, path.to_owned())
                && other != path
            {
                self.import.warnings.push(format!(
                    "{path}.MacAddresses: {mac} is also claimed by {other}; it will check nobody in until only one has it"
                ));
            }
        }
    }

    fn finish(mut self) -> Result<Import, ImportFaults> {
        if self.faults.is_empty() {
            return Ok(self.import);
        }
        let more = self.faults.len().saturating_sub(FAULTS);
        self.faults.truncate(FAULTS);
        if more > 0 {
            self.faults.push(format!("and {more} more"));
        }
        Err(ImportFaults(self.faults))
    }
}

/// PINs are kept as digests only, so that a reader of the database does not learn them.
fn without_pins(fields: &Map<String, Value>, pin_key: &str) -> Map<String, Value> {
    let mut fields = fields.clone();
    let text = match fields.get("AccessPincode") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => return fields,
    };
    let digests: Vec<String> = entity::listed(Some(&text))
        .map(|pin| {
            if pin.starts_with(DIGEST_MARK) {
                pin.to_owned()
            } else {
                format!("{DIGEST_MARK}{}", pin_digest(pin, pin_key))
            }
        })
        .collect();
    fields.insert("AccessPincode".to_owned(), Value::String(digests.join(",")));
    fields
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_with_its_path() {
        let text = r#"{
            "Coworkers": [
                {"Id": 1, "FullName": "Ada", "MacAddresses": "3c:22:fb:00:00:01,nonsense"},
                {"Id": 1, "FullName": "Twice"},
                {"Id": "x", "FullName": "Wrong"},
                {"Id": 4},
                7
            ],
            "Team": [], "Tariffs": {}
        }"#;
        let ImportFaults(faults) = read_json(text, "key").expect_err("faults");
        assert_eq!(
            faults,
            [
                "Team: no such list; there are Businesses, Teams, Tariffs, TimePasses, Coworkers, CoworkerTimePasses",
                "Tariffs: an object where a list is needed",
                "Coworkers[0].MacAddresses: \"nonsense\" is not a MAC address; write it as 3c:22:fb:01:02:03, \
                 3c-22-fb-01-02-03, 3c22.fb01.0203 or 3c22fb010203",
                "Coworkers[1].Id: 1 stands in this list twice",
                "Coworkers[2]: invalid type: string \"x\", expected i64",
                "Coworkers[3]: missing field `FullName`",
                "Coworkers[4]: a number where an object is needed",
            ]
        );
    }

    #[test]
    fn an_address_that_two_people_claim_is_reported() {
        let text = r#"{"Coworkers": [
            {"Id": 1, "FullName": "Ada", "MacAddresses": "3C-22-FB-00-00-01"},
            {"Id": 2, "FullName": "Bob", "MacAddresses": "3c:22:fb:00:00:01, 02:00:00:00:00:05"}
        ]}"#;
        let import = read_json(text, "key").expect("imports");
        assert_eq!(import.documents.len(), 2);
        assert_eq!(import.warnings.len(), 2, "{:?}", import.warnings);
        assert!(import.warnings.iter().any(|warning| warning.contains("also claimed by Coworkers[0]")));
        assert!(import.warnings.iter().any(|warning| warning.contains("randomised")));
    }

    #[test]
    fn pins_are_not_stored_in_clear_and_unknown_fields_are_kept() {
        let text = r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "AccessPincode": 12345, "Nickname": "A"}]}"#;
        let import = read_json(text, "key").expect("imports");
        let body = import.documents[0].body.to_string();
        assert!(!body.contains("12345"), "{body}");
        assert!(body.contains("Nickname"));
    }

    #[test]
    fn text_that_is_not_json_says_where() {
        let ImportFaults(faults) = read_json("{\n  oops", "key").expect_err("faults");
        assert!(faults[0].starts_with("line 2, column 3: not JSON"), "{faults:?}");
    }
}
