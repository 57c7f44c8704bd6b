//! The number of a record in a path.

use axum::extract::{Path, rejection::PathRejection};

/// What a path says in the place of the number.
pub(super) type PathId = Result<Path<String>, PathRejection>;

/// The number, if it is one. Some clients calculate with floating point and write `7.0`.
pub(super) fn number(id: PathId) -> Option<i64> {
    let Path(text) = id.ok()?;
    text.strip_suffix(".0").unwrap_or(&text).parse().ok()
}
