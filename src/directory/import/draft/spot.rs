//! PURE. The place of an entity in the files of an import.

use crate::directory::import::EntryPlace;

/// The file, and the place in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntrySpot {
    pub(super) file: usize,
    pub(super) place: EntryPlace,
}

/// The column of a field in a table; a field without one keeps its name.
pub(super) fn column(field: &str) -> &str {
    match field {
        "FullName" => "full_name",
        "TariffId" => "tariff",
        "Teams" => "teams",
        "AccessCardId" => "cards",
        "MacAddresses" => "macs",
        "Slots" => "slots",
        _ => field,
    }
}
