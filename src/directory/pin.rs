//! PURE. PINs are kept only as digests, so a reader of the database does not learn them.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::entity;

/// The mark of a PIN that is stored as a digest.
pub(crate) const DIGEST_MARK: &str = "sha256:";

/// The digest of a PIN. Short numbers can be guessed in a moment, so this hides PINs from a reader of the database who
/// does not also have the key.
pub(crate) fn pin_digest(pin: &str, key: &str) -> String {
    let digest =
        Sha256::new().chain_update(key.as_bytes()).chain_update(b"/pin/").chain_update(pin.as_bytes()).finalize();
    format!("{:032x}", digest.iter().take(16).fold(0u128, |number, byte| number << 8 | u128::from(*byte)))
}

/// What stands for a PIN that is shown together with its owner's e-mail address: two people may have the same PIN, but
/// not with the same address. `digest` is that of the PIN alone, because no more of it is stored.
pub(crate) fn pin_of_email(email: &str, digest: &str) -> String {
    format!("{}/{digest}", email.trim().to_lowercase())
}

/// Replaces PINs with digests, so a reader of the database does not learn them.
pub(super) fn hide_pins(fields: &mut Map<String, Value>, pin_key: &str) {
    let text = match fields.get("AccessPincode") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => return,
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
}
