//! PURE. Reads an import file into entities and reports every fault at once. Nothing is imported from a file with a
//! fault.
//!
//! `import::draft` combines several files with the stored directory.

mod alone;
mod claims;
pub mod draft;
mod people;
mod spreadsheet;

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};

pub use alone::meant;
use alone::{read_alone, sample};

use super::{
    entity::{self, CredentialField, EntityKind},
    pin::hide_pins,
    scoped,
};
use crate::base::mac::MacAddr;

/// The contents of an import file, ready for the database.
#[derive(Debug, Default)]
pub struct Import {
    /// The documents, in the order of the file.
    pub documents: Vec<Document>,
}

/// One entity in the form in which it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The kind.
    pub kind: EntityKind,
    /// Its `Id`.
    pub id: i64,
    /// `Archived`.
    pub archived: bool,
    /// The whole document as JSON, with digests in place of PINs. It is text, because a hundred thousand trees are
    /// large.
    pub body: String,
    /// Of a pass: its holder.
    pub holder: Option<i64>,
    /// Of a pass: the fields that set what is left, as text. What was used since they last changed is subtracted.
    pub basis: Option<String>,
    /// Its place in the file.
    pub place: EntryPlace,
}

impl Document {
    /// From the fields of an entity, with PINs already replaced.
    pub(crate) fn of(
        kind: EntityKind,
        (id, archived): (i64, bool),
        fields: Map<String, Value>,
        place: EntryPlace,
    ) -> Self {
        let holder = (kind == EntityKind::CoworkerTimePass).then(|| fields.get("CoworkerId").and_then(Value::as_i64));
        let basis = basis(kind, &fields);
        Self { kind, id, archived, body: Value::Object(fields).to_string(), holder: holder.flatten(), basis, place }
    }
}

/// The place of an entity in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryPlace {
    /// The index in its list.
    Item(usize),
    /// The line of a table, from 1.
    Line(u64),
    /// In the database.
    Stored,
}

/// Why files cannot be imported: every fault, with its path into the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportFaults(pub Vec<String>);

impl fmt::Display for ImportFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ImportFaults {}

/// The most faults and the most warnings that are reported. A file in a wrong shape has one for each entity, and the
/// first hundred are enough to see why; the rest are counted.
const LINES: usize = 100;

/// Reads the JSON of an import: one object of arrays, all optional. Reads one entity at a time and keeps only its text.
///
/// # Errors
/// Every fault of the file, up to a hundred.
pub fn read_json(text: &str, pin_key: &str) -> Result<Import, ImportFaults> {
    let mut reading =
        FileReading { pin_key, faults: ReportLines::default(), import: Import::default(), seen: BTreeSet::new() };
    let mut json = serde_json::Deserializer::from_str(text.trim_start_matches(BYTE_ORDER_MARK));
    let read = json.deserialize_any(File(&mut reading)).and_then(|()| json.end());
    if let Err(error) = read {
        let (line, column) = (error.line(), error.column());
        reading.faults.push(|| format!("line {line}, column {column}: not JSON: {error}"));
    }
    if reading.faults.is_empty() { Ok(reading.import) } else { Err(ImportFaults(reading.faults.finish())) }
}

/// The mark that some programs put at the start of a UTF-8 file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The first lines of a report, and the number of all of them.
#[derive(Debug, Default)]
struct ReportLines {
    first: Vec<String>,
    all: usize,
}

impl ReportLines {
    fn push(&mut self, line: impl FnOnce() -> String) {
        if self.first.len() < LINES {
            self.first.push(line());
        }
        self.all += 1;
    }

    fn is_empty(&self) -> bool {
        self.all == 0
    }

    fn finish(mut self) -> Vec<String> {
        let more = self.all - self.first.len();
        if more > 0 {
            self.first.push(format!("and {more} more"));
        }
        self.first
    }
}

struct FileReading<'a> {
    pin_key: &'a str,
    faults: ReportLines,
    import: Import,
    seen: BTreeSet<(EntityKind, i64)>,
}

/// The whole file.
struct File<'r, 'a>(&'r mut FileReading<'a>);

/// One of its lists.
struct List<'r, 'a>(&'r mut FileReading<'a>, EntityKind);

/// Values of neither of the two expected shapes.
macro_rules! other_shapes {
    ($refuse:ident) => {
        fn visit_bool<E>(self, value: bool) -> Result<(), E> {
            self.$refuse(&Value::from(value));
            Ok(())
        }
        fn visit_i64<E>(self, value: i64) -> Result<(), E> {
            self.$refuse(&Value::from(value));
            Ok(())
        }
        fn visit_u64<E>(self, value: u64) -> Result<(), E> {
            self.$refuse(&Value::from(value));
            Ok(())
        }
        fn visit_f64<E>(self, value: f64) -> Result<(), E> {
            self.$refuse(&Value::from(value));
            Ok(())
        }
        fn visit_str<E>(self, value: &str) -> Result<(), E> {
            self.$refuse(&Value::from(value));
            Ok(())
        }
    };
}

impl File<'_, '_> {
    fn refuse(self, found: &Value) {
        self.0.faults.push(|| format!("the file must be an object of arrays, but holds {}", kind_of(found)));
    }
}

impl<'de> Visitor<'de> for File<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of arrays")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if let Some(kind) = EntityKind::ALL.into_iter().find(|kind| kind.array() == name) {
                map.next_value_seed(List(self.0, kind))?;
            } else {
                map.next_value::<IgnoredAny>()?;
                let known = EntityKind::ALL.map(EntityKind::array).join(", ");
                self.0.faults.push(|| format!("{name}: there is no such list; the lists are {known}"));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        self.refuse(&Value::Array(Vec::new()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.refuse(&Value::Null);
        Ok(())
    }

    other_shapes!(refuse);
}

impl List<'_, '_> {
    fn refuse(self, found: &Value) {
        let array = self.1.array();
        self.0.faults.push(|| format!("{array}: must be a list, but is {}", kind_of(found)));
    }
}

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut at = 0;
        while let Some(text) = list.next_element::<&'de RawValue>()? {
            self.0.entity(self.1, at, text.get());
            at += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.refuse(&Value::Object(Map::new()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    other_shapes!(refuse);
}

impl FileReading<'_> {
    fn entity(&mut self, kind: EntityKind, at: usize, text: &str) {
        let path = || format!("{}[{at}]", kind.array());
        // Not JSON, a NUL or not an object: there are no fields to check.
        let entity = match serde_json::from_str(text) {
            Ok(entity) => entity,
            Err(error) => {
                self.faults.push(|| format!("{}: {error}", path()));
                return;
            }
        };
        if has_nul(&entity) {
            self.faults
                .push(|| format!("{}: a text contains a NUL character, which the database cannot store", path()));
        }
        let Value::Object(mut fields) = entity else {
            self.faults.push(|| format!("{}: must be an object, but is {}", path(), kind_of(&entity)));
            return;
        };
        // An update may omit fields that are already stored; `draft` checks that.
        let mut whole = fields.clone();
        for name in kind.required().iter().filter(|name| **name != "Id") {
            whole.entry(*name).or_insert_with(|| sample(name));
        }
        if let Err(error) = kind.read(Value::Object(whole)) {
            let mut found = faulty_fields(kind, &fields);
            if found.is_empty() {
                found.push(format!(": {error}"));
            }
            if kind == EntityKind::Coworker {
                found.extend(spell_out(&mut fields, text).into_iter().map(|fault| format!(".{fault}")));
            }
            for fault in found {
                self.faults.push(|| format!("{}{fault}", path()));
            }
            return;
        }
        // The fields are readable; the id must be positive and occur once in the list.
        let id = fields.get("Id").and_then(Value::as_i64).unwrap_or_default();
        if id <= 0 {
            self.faults.push(|| format!("{}.Id: {id} is not a positive number", path()));
        }
        if !self.seen.insert((kind, id)) {
            self.faults.push(|| format!("{}.Id: {id} is in this list twice", path()));
        }
        // Bring credentials into the form that readers send, and replace PINs.
        if kind == EntityKind::Coworker {
            for fault in spell_out(&mut fields, text) {
                self.faults.push(|| format!("{}.{fault}", path()));
            }
            hide_pins(&mut fields, self.pin_key);
        }
        let archived = fields.get("Archived").and_then(Value::as_bool).unwrap_or(false);
        self.import.documents.push(Document::of(kind, (id, archived), fields, EntryPlace::Item(at)));
    }
}

/// The numbers of a coworker as written in the file: once parsed, they have lost what 64-bit floating point cannot
/// hold.
#[derive(Default, Deserialize)]
struct WrittenNumbers<'a> {
    #[serde(borrow, rename = "AccessCardId")]
    card: Option<&'a RawValue>,
    #[serde(borrow, rename = "KeyFobNumber")]
    fob: Option<&'a RawValue>,
    #[serde(borrow, rename = "AccessPincode")]
    pin: Option<&'a RawValue>,
}

/// Brings the credentials of a coworker into the form that readers send. Each fault begins with its field.
fn spell_out(fields: &mut Map<String, Value>, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if fields.contains_key("ByHand") {
        faults.push("ByHand: an import cannot set what was assigned by hand; leave it out".to_owned());
    }
    for field in CredentialField::ALL {
        let name = field.key();
        let spelled = match fields.get(name) {
            Some(Value::Number(number)) if number.is_f64() => {
                let written: WrittenNumbers<'_> = serde_json::from_str(text).unwrap_or_default();
                let written = match field {
                    CredentialField::KeyFobNumber => written.fob,
                    CredentialField::AccessPincode => written.pin,
                    CredentialField::AccessCardId
                    | CredentialField::MacAddresses
                    | CredentialField::Slots
                    | CredentialField::AccessUsers
                    | CredentialField::AccessNames => written.card,
                };
                let number = written.map_or_else(|| number.to_string(), |written| written.get().to_owned());
                spreadsheet::number(&number).map_err(|fault| refused_number(field, &number, fault))
            }
            Some(Value::String(text)) => match spelled(field, text, &['\n']) {
                // Kept as written, so an unchanged value does not count as a change.
                Ok(values) if entity::listed(Some(text)).eq(values.iter().map(String::as_str)) => continue,
                other => other.map(|values| values.join(",")),
            },
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) | None => {
                continue;
            }
        };
        match spelled {
            Ok(text) => {
                fields.insert(name.to_owned(), text.into());
            }
            Err(fault) => faults.push(format!("{name}: {fault}")),
        }
    }
    faults
}

/// The values of a field in the form that readers send, or what is wrong with it.
fn spelled(field: CredentialField, text: &str, separators: &[char]) -> Result<Vec<String>, String> {
    let example = match field {
        CredentialField::AccessCardId | CredentialField::KeyFobNumber | CredentialField::AccessPincode => {
            return spreadsheet::numbers(text, separators).map_err(|fault| refused_number(field, text, fault));
        }
        CredentialField::MacAddresses => {
            let values = spreadsheet::codes(text, separators);
            return values.iter().try_for_each(|mac| device(mac).map(drop)).map(|()| values);
        }
        CredentialField::Slots => "source/door/5",
        CredentialField::AccessUsers => "source/17",
        CredentialField::AccessNames => "source/Ada Example",
    };
    let values = spreadsheet::codes(text, separators);
    let scopeless = |value: &&String| field.kind().and_then(|kind| scoped::key_of_text(kind, value)).is_none();
    match values.iter().find(scopeless) {
        Some(value) => Err(format!("\"{value}\" has no scope; for example, write {example}")),
        None => Ok(values),
    }
}

/// The fault of a value. PINs are not shown.
fn refused_number(field: CredentialField, text: &str, fault: &str) -> String {
    let shown = if field == CredentialField::AccessPincode { "the value".to_owned() } else { format!("\"{text}\"") };
    format!("{shown} is {fault}")
}

/// Why an entity cannot be read. The deserializer stops at the first fault and does not name the field, so each field
/// is read alone, with samples of the required ones. Each fault continues the entity's path.
fn faulty_fields(kind: EntityKind, fields: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    if !fields.contains_key("Id") {
        found.push(": missing field `Id`".to_owned());
    }
    for (name, value) in fields {
        let Err(error) = read_alone(kind, name, value) else { continue };
        match value {
            Value::Array(slots) if kind == EntityKind::TimePass && name == "TimeSlots" => {
                let slots = slots.iter().enumerate();
                found.extend(slots.flat_map(|(at, slot)| {
                    faulty_slot(slot).into_iter().map(move |fault| format!(".TimeSlots[{at}]{fault}"))
                }));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                found.push(format!(".{name}: {error}"));
            }
        }
    }
    found
}

fn faulty_slot(slot: &Value) -> Vec<String> {
    const NEEDED: [&str; 3] = ["DayOfWeek", "FromTime", "ToTime"];
    let Value::Object(fields) = slot else { return vec![format!(": must be an object, but is {}", kind_of(slot))] };
    let missing = NEEDED.into_iter().filter(|name| !fields.contains_key(*name));
    let mut found: Vec<String> = missing.map(|name| format!(": missing field `{name}`")).collect();
    for name in NEEDED.into_iter().filter(|name| fields.contains_key(*name)) {
        let mut alone: Map<String, Value> = NEEDED.into_iter().map(|name| (name.to_owned(), sample(name))).collect();
        alone.insert(name.to_owned(), fields.get(name).cloned().unwrap_or_default());
        let read: Result<entity::TimeSlot, _> = serde_json::from_value(Value::Object(alone));
        found.extend(read.err().map(|error| format!(".{name}: {error}")));
    }
    found
}

/// The fields of a pass that set what is left of it, in a canonical form.
fn basis(kind: EntityKind, fields: &Map<String, Value>) -> Option<String> {
    const SAID: [&str; 5] = ["RemainingMinutes", "RemainingUses", "TotalUses", "Used", "UsedDate"];
    let said =
        |name: &str| fields.get(name).filter(|value| !value.is_null()).map(|value| (name.to_owned(), value.clone()));
    (kind == EntityKind::CoworkerTimePass)
        .then(|| Value::Object(SAID.into_iter().filter_map(said).collect()).to_string())
}

/// The address of a single device, or why the text is not one.
fn device(text: &str) -> Result<MacAddr, String> {
    match text.parse::<MacAddr>() {
        Ok(mac) if mac.is_station() => Ok(mac),
        Ok(mac) => Err(format!("{mac} cannot be the address of a single device")),
        Err(error) => Err(error.to_string()),
    }
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
                "Coworkers[0].MacAddresses: \"nonsense\" is not a MAC address; write it as 3c:22:fb:01:02:03, \
                 3c-22-fb-01-02-03, 3c22.fb01.0203 or 3c22fb010203",
                "Coworkers[1].Id: 1 is in this list twice",
                "Coworkers[2].Id: invalid type: string \"x\", expected i64",
                "Coworkers[4]: must be an object, but is a number",
                "Team: there is no such list; the lists are Businesses, Teams, Tariffs, TimePasses, Coworkers, CoworkerTimePasses",
                "Tariffs: must be a list, but is an object",
            ]
        );
    }

    #[test]
    fn every_fault_of_passes_and_plans_is_named_with_its_path() {
        let text = r#"{
            "Tariffs": [{"Id": 5, "Name": "Part time", "CheckinWeekLimit": -1, "HoursMonthLimit": 2.5, "InvoiceEvery": 1.0}],
            "TimePasses": [
                {"Id": 1, "Name": "Day", "Price": "1,50", "UsePriority": "Top", "MinutesIncluded": 0, "CurrencyCode": "gbp"},
                {"Id": 2, "Price": 12.34567, "Businesses": 3, "TimeSlots": {}},
                {"Id": 3, "Name": "Mornings", "TimeSlots": [
                    {"DayOfWeek": 1, "FromTime": "9 o'clock", "ToTime": "13:00"}, {"DayOfWeek": 7, "FromTime": "09:00"}, 4]}
            ],
            "Coworkers": [{"Id": 1, "FullName": "Ada", "RenewalDate": "soon"}],
            "CoworkerTimePasses": [
                {"Id": 1, "CoworkerId": 1, "TimePassId": 1, "ExpireDate": "31.12.2026", "RemainingUses": "3", "UniqueId": "x"}]
        }"#;
        let ImportFaults(faults) = read_json(text, "key").expect_err("faults");
        insta::assert_snapshot!(faults.join("\n"), @r#"
        Tariffs[0].CheckinWeekLimit: -1 is not a whole number from 0 to 4294967295
        Tariffs[0].HoursMonthLimit: 2.5 is not a whole number from 0 to 4294967295
        TimePasses[0].CurrencyCode: "gbp" is not a currency; for example, write GBP
        TimePasses[0].MinutesIncluded: 0 minutes are no use; leave this out for a day pass
        TimePasses[0].Price: "1,50" is not a price; for example, write 12.5
        TimePasses[0].UsePriority: "Top" is not one of High, Normal, Low, 1, 2, 3
        TimePasses[1].Businesses: invalid type: integer `3`, expected a sequence
        TimePasses[1].Price: "12.34567" is not a price; for example, write 12.5
        TimePasses[1].TimeSlots: invalid type: map, expected a sequence
        TimePasses[2].TimeSlots[0].FromTime: "9 o'clock" is not a time of day; for example, write 09:00
        TimePasses[2].TimeSlots[1]: missing field `ToTime`
        TimePasses[2].TimeSlots[1].DayOfWeek: "7" is not a weekday; write 0 (Sunday) to 6 (Saturday), or its English name
        TimePasses[2].TimeSlots[2]: must be an object, but is a number
        Coworkers[0].RenewalDate: "soon" is not a date; for example, write 2026-01-31 or 2026-01-31T18:00:00Z
        CoworkerTimePasses[0].ExpireDate: "31.12.2026" is not a date; for example, write 2026-01-31 or 2026-01-31T18:00:00Z
        CoworkerTimePasses[0].RemainingUses: invalid type: string "3", expected a JSON number
        CoworkerTimePasses[0].UniqueId: UUID parsing failed: invalid character: found `x` at 0
        "#);
    }

    #[test]
    fn pins_are_not_stored_in_clear_and_unknown_fields_are_kept() {
        let text = r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "AccessPincode": 12345, "Nickname": "A"}]}"#;
        let import = read_json(text, "key").expect("imports");
        let body = &import.documents[0].body;
        assert!(!body.contains("12345"), "{body}");
        assert!(body.contains("Nickname"));
    }

    #[test]
    fn text_that_is_not_json_says_where() {
        let ImportFaults(faults) = read_json("{\n  oops", "key").expect_err("faults");
        assert!(faults[0].starts_with("line 2, column 3: not JSON"), "{faults:?}");
    }
}
