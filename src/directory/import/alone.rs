//! PURE. One field of an entity, read without the others.

use serde_json::{Map, Value};

use crate::directory::entity::{Entity, EntityKind};

/// Reads an entity that has only this field, and samples of the required ones.
///
/// # Errors
/// The value is of no use for the field.
pub(super) fn read_alone(kind: EntityKind, name: &str, value: &Value) -> Result<Entity, serde_json::Error> {
    let mut alone: Map<String, Value> = kind.required().iter().map(|name| ((*name).to_owned(), sample(name))).collect();
    alone.insert(name.to_owned(), value.clone());
    kind.read(Value::Object(alone))
}

/// The value as an import reads it for this field, if a client may have meant it: numbers, switches and lists that were
/// sent as text, as in a form. A value of no use stays as it is, and becomes a fault of the import.
pub fn meant(kind: EntityKind, name: &str, value: Value) -> Value {
    let is_read = |value: &Value| read_alone(kind, name, value).is_ok();
    if is_read(&value) {
        return value;
    }
    let text = match &value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return value,
    };
    let switch = match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(Value::Bool(true)),
        "false" | "0" => Some(Value::Bool(false)),
        _ => None,
    };
    let empty = text.is_empty().then_some(Value::Null);
    let written = serde_json::from_str(&text).ok();
    [empty, written, switch].into_iter().flatten().find(is_read).unwrap_or(value)
}

/// A valid sample of a required field.
pub(super) fn sample(name: &str) -> Value {
    match name {
        "Name" | "FullName" => "-".into(),
        "FromTime" | "ToTime" => "00:00".into(),
        _ => 1.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_becomes_what_the_field_holds() {
        for (kind, name, sent, expected) in [
            (EntityKind::Coworker, "TariffId", json!("7"), json!(7)),
            (EntityKind::Coworker, "TariffId", json!(""), json!(null)),
            (EntityKind::Coworker, "Active", json!("True"), json!(true)),
            (EntityKind::Coworker, "Active", json!(0), json!(false)),
            (EntityKind::Coworker, "Teams", json!("[1, 2]"), json!([1, 2])),
            (EntityKind::Coworker, "AccessCardId", json!("0012"), json!("0012")),
            (EntityKind::Coworker, "FullName", json!("7"), json!("7")),
            (EntityKind::Coworker, "TariffId", json!("seven"), json!("seven")),
            (EntityKind::CoworkerTimePass, "CoworkerId", json!("7"), json!(7)),
            (EntityKind::Coworker, "Nickname", json!("7"), json!("7")),
        ] {
            assert_eq!(meant(kind, name, sent.clone()), expected, "{name} {sent}");
        }
    }
}
