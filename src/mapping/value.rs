//! PURE. Reading single values of a payload.

use serde_json::Value;

use crate::mapping::{content::RejectReason, limits::LONGEST_TEXT};

/// The text of a string, number or boolean.
pub(super) fn scalar_text(value: &Value) -> Result<String, RejectReason> {
    match value {
        Value::String(text) => bounded(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(RejectReason::BadField),
    }
}

/// The text of a card. An array of octets is accepted as well: its text is the octets in decimal, joined by dashes.
pub(super) fn card_text(value: &Value) -> Result<Option<String>, RejectReason> {
    let Value::Array(octets) = value else {
        return scalar_text(value).map(Some);
    };
    let octets: Option<Vec<String>> =
        octets.iter().take(LONGEST_TEXT).map(|octet| Some(u8::try_from(octet.as_u64()?).ok()?.to_string())).collect();
    octets.map(|octets| Some(octets.join("-"))).ok_or(RejectReason::BadField)
}

/// Refuses a text that no controller sends: one that is too long or contains a control character.
pub(super) fn bounded(text: String) -> Result<String, RejectReason> {
    let long = text.len() > LONGEST_TEXT && text.chars().count() > LONGEST_TEXT;
    if long || text.trim().chars().any(char::is_control) { Err(RejectReason::BadField) } else { Ok(text) }
}

/// Whether two values are equal and of the same type. 1 and 1.0 are the same number.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a.to_bits() == b.to_bits())
}

/// Whether a value is null, blank or empty. A number or a boolean never is.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
    }
}
