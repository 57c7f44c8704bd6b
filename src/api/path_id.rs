//! The number of a record in a path.

use axum::extract::{Path, rejection::PathRejection};

use super::client_number;

/// What a path says in the place of the number.
pub(super) type PathId = Result<Path<String>, PathRejection>;

/// The number, if it is one.
pub(super) fn number(id: PathId) -> Option<i64> {
    let Path(text) = id.ok()?;
    client_number::whole(&text)
}
