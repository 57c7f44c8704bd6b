//! PURE. Entities as JSON documents: finds what differs, and sets a field without changing what is already right.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::directory::entity;

/// Marks an entity that `--replace` archived: it comes back when a file contains it again. An entity that the platform
/// archived stays archived until the platform changes that.
pub const LEFT_OUT: &str = "LeftOutByImport";

/// The platform's two spellings of one field; a document may contain only one of them.
pub(super) const SAME_FIELD: [&str; 2] = ["AllowNetworkCheckin", "AllowNetworkCheckIn"];

/// Brings back what `--replace` archived when a file contains it, unless the file itself contains `Archived`.
pub(super) fn bring_back(body: &mut Map<String, Value>, says_archived: bool) {
    if body.remove(LEFT_OUT).is_some() && !says_archived {
        body.remove("Archived");
    }
}

pub(super) fn text_or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

pub(super) fn object(document: &str) -> Map<String, Value> {
    serde_json::from_str(document).unwrap_or_default()
}

pub(super) fn name_of(body: &Map<String, Value>) -> Option<String> {
    let name = body.get("FullName").or_else(|| body.get("Name")).or_else(|| body.get("TimePassName"));
    name.and_then(Value::as_str).map(str::to_owned)
}

/// The names of the fields that differ; null is the same as absent.
pub(super) fn differences(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    fn value<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
        of.get(name).filter(|value| !value.is_null())
    }
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| value(before, name) != value(after, name)).cloned().collect()
}

/// Sets a `,`-separated field, unless it already contains the same values, perhaps in another spelling.
pub(super) fn set_list(
    body: &mut Map<String, Value>,
    field: &str,
    values: &[String],
    spelled: impl Fn(&str) -> String,
) {
    let before = match body.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => String::new(),
    };
    if !entity::listed(Some(&before)).map(&spelled).eq(values.iter().map(|value| spelled(value))) {
        body.insert(field.to_owned(), text_or_null(&values.join(",")));
    }
}
