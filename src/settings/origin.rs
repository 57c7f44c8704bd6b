//! PURE. Where a key and its value are written. It travels with the value through the layers.

use config::Value;

use crate::settings::report::Span;

/// Where a key and its value are written; stored as the origin of a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValueOrigin {
    pub(super) key: Span,
    pub(super) value: Span,
    /// Whether it is an environment variable, where every value is text.
    pub(super) variable: bool,
}

impl ValueOrigin {
    pub(super) fn to_text(self) -> String {
        let Self { key, value, variable } = self;
        format!("{} {} {} {} {} {}", key.origin, key.start, key.end, value.start, value.end, u8::from(variable))
    }

    /// Where a value is written; a value without a place is a shipped default.
    pub(super) fn of(value: &Value) -> Self {
        let numbers: Vec<usize> =
            value.origin().unwrap_or_default().split(' ').filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [origin, key_start, key_end, start, end, variable] => Self {
                key: Span { origin, start: key_start, end: key_end },
                value: Span { origin, start, end },
                variable: variable == 1,
            },
            _ => Self { key: Span::SHIPPED, value: Span::SHIPPED, variable: false },
        }
    }
}
