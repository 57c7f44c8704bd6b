//! What must hold for any bytes sent as the body of a command. The first byte selects the content type.

use checkind::api::strange_input::{command_body, command_fields};

/// The content types that clients send, or none.
const TYPES: [Option<&str>; 4] =
    [None, Some("application/json"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")];

/// The longest message for all faults of a body, in bytes.
const A_SCREENFUL: usize = 8 * 1024;

/// The most keys of a body.
const MOST_KEYS: usize = 1000;

/// Panics when the reading of a body breaks a promise.
pub(crate) fn check(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let kind = TYPES[usize::from(*first) % TYPES.len()];
    let told = |fault: &str| assert!(!fault.is_empty() && fault.len() <= A_SCREENFUL, "{fault:?}");
    match command_body(kind, body) {
        Ok(fields) => {
            assert!(fields.len() <= MOST_KEYS, "{} keys", fields.len());
            // Whatever it was, it is the same body as JSON, in the same order.
            let text = |name: &String| serde_json::Value::from(name.as_str()).to_string();
            let pairs: Vec<String> = fields.iter().map(|(name, json)| format!("{}:{json}", text(name))).collect();
            let whole = format!("{{{}}}", pairs.join(","));
            assert_eq!(command_body(None, whole.as_bytes()), Ok(fields), "{whole}");
        }
        Err(fault) => told(&fault),
    }
    if let Err(fault) = command_fields(kind, body) {
        told(&fault);
    }
}
