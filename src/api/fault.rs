//! PURE. What is wrong with a request, field by field, as the platform says it.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;

/// The longest value that a fault repeats, in characters.
const REPEATED: usize = 100;

/// One fault: a parameter or a key whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct FieldFault {
    /// The value, cut to a readable length.
    pub(super) attempted_value: Option<String>,
    /// What the value should be: `is a number`.
    #[schema(value_type = String)]
    pub(super) message: Cow<'static, str>,
    /// The name: of a parameter as the client wrote it, of a key as the documents write it.
    pub(super) property_name: String,
}

impl FieldFault {
    pub(super) fn new(name: &str, value: Option<&str>, message: impl Into<Cow<'static, str>>) -> Self {
        let cut = |text: &str| text.chars().take(REPEATED).collect();
        Self { attempted_value: value.map(cut), message: message.into(), property_name: cut(name) }
    }
}

/// `Name: text` of each, as the platform joins them in `Message`.
pub(super) fn sentence(faults: &[FieldFault]) -> String {
    let each = faults.iter().map(|fault| format!("{}: {}", fault.property_name, fault.message));
    each.collect::<Vec<_>>().join("; ")
}
