//! PURE. Whole numbers as clients write them.

/// Reads a whole number. Some clients calculate with floating point and write `7.0`.
pub(super) fn whole(text: &str) -> Option<i64> {
    text.strip_suffix(".0").unwrap_or(text).parse().ok()
}
