//! PURE. Where an entity is in the files of an import.

use crate::directory::import::EntryPlace;

/// Which file, and where in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntrySpot {
    pub(super) file: usize,
    pub(super) place: EntryPlace,
}

/// A table's column for a field; fields without one keep their names.
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
