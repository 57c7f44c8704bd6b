//! What strangers send, read as a request would read it. For the fuzz targets in `tests/fuzz`: without a database there is
//! nothing to answer.

use super::{command_body::CommandBody, documents, fault::sentence, listed_entity::CHECKIN, query};
use crate::{base::clock::WallTime, directory::entity::EntityKind};

/// Reads the body of a command: its keys, and their values as JSON.
///
/// # Errors
/// What the client would be told.
pub fn command_body(content_type: Option<&str>, body: &[u8]) -> Result<Vec<(String, String)>, String> {
    let read = CommandBody::read(content_type, body).map_err(|faults| sentence(&faults))?;
    Ok(read.rest().map(|(name, json)| (name.to_owned(), json)).collect())
}

/// Reads fields of every type from a body: how many there are.
///
/// # Errors
/// What the client would be told.
pub fn command_fields(content_type: Option<&str>, body: &[u8]) -> Result<usize, String> {
    let mut read = CommandBody::read(content_type, body).map_err(|faults| sentence(&faults))?;
    let found = [
        read.required("Id", CommandBody::id).is_some(),
        read.truth("AutoCheckout").value().is_some(),
        read.guid("CoworkerTimePassGuid").value().is_some(),
        read.instant("FromTime").value().is_some(),
        read.wall_clock("FromTimeLocal").value().is_some(),
        read.source("Source").value().is_some(),
        read.text("SystemId", 100).value().is_some(),
    ];
    let unknown = read.finish(&[]).map_err(|faults| sentence(&faults))?;
    Ok(found.into_iter().filter(|is_there| *is_there).count() + unknown.len())
}

/// Reads the query of a list of check-ins, and of one of people: how many parameters mean nothing.
///
/// # Errors
/// What the client would be told.
pub fn list_query(query: &str, now: WallTime) -> Result<usize, String> {
    let people = documents::read(EntityKind::Coworker, query).and_then(|read| read.apply(Vec::new()));
    let checkins = query::read(&CHECKIN, query, now).map_err(|faults| sentence(&faults))?;
    people.map_err(|faults| sentence(&faults))?;
    Ok(checkins.ignored.len())
}
