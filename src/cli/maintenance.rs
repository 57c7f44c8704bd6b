//! What `checkind migrate` and `checkind maintain` print.

use std::fmt::Write as _;

use serde_json::json;

use super::print::pretty;
use crate::store::{Reclaimed, SchemaChange};

/// What became of the schema, as text.
pub(super) fn migrated(change: &SchemaChange) -> String {
    let SchemaChange { from, to, copy, took } = change;
    let seconds = took.as_secs_f64();
    let mut text = match (*from, from == to) {
        (_, true) => return format!("The schema is version {to}; there is nothing to change.\n"),
        (0, false) => format!("The tables were created, schema version {to}.\n"),
        (_, false) => format!("The schema was changed from version {from} to {to} in {seconds:.1} s.\n"),
    };
    if let Some(copy) = copy {
        writeln!(text, "The database as it was before is in {}.", copy.display()).expect("a String takes everything");
    }
    text
}

/// What became of the schema, as JSON.
pub(super) fn migrated_json(change: &SchemaChange) -> String {
    let SchemaChange { from, to, copy, took } = change;
    pretty(&json!({ "From": from, "To": to, "Copy": copy, "Seconds": took.as_secs_f64() }))
}

/// What was given back, as text.
pub(super) fn reclaimed(reclaimed: &Reclaimed) -> String {
    let Reclaimed { before, after } = reclaimed;
    match before.saturating_sub(*after) {
        0 => format!("Every page of the database is in use; with its log it has {after} bytes.\n"),
        given => {
            format!("{given} bytes were given back; the database with its log has {after} bytes, before {before}.\n")
        }
    }
}

/// What was given back, as JSON.
pub(super) fn reclaimed_json(reclaimed: &Reclaimed) -> String {
    let Reclaimed { before, after } = reclaimed;
    pretty(&json!({ "BytesBefore": before, "BytesAfter": after }))
}
