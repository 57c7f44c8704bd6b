//! What one transaction of the pipeline reads and writes: as many statements for a thousand people as for one.

mod charges;
mod coverage;
mod failures;
mod load;
mod log;
mod people;
mod presences;
mod records;
mod transaction;
mod usage;
mod visits;
mod writes;

pub(crate) use coverage::CoverageRow;
pub(crate) use load::BatchRows;
pub(crate) use log::DecidedFact;
pub(super) use log::{FactRow, PUT_FACTS, fact_row};
pub(super) use people::NEXT_DEADLINE;
pub(crate) use people::{NewPersonState, StoredPerson};
pub(crate) use presences::UnloggedPresence;
pub(crate) use records::StoredRecords;
pub(crate) use transaction::Batch;
pub(crate) use visits::{ChangedVisit, EditedVisit, StoredVisit};
pub(in crate::store) use visits::{IdRow, local};
pub(super) use visits::{PASS_IN_POSTGRES, PASS_IN_SQLITE, PassColumns};
pub(crate) use writes::Writes;

/// Every table that batches read or write, with the columns of each struct for its rows.
#[cfg(test)]
pub(super) fn tables() -> Vec<(&'static str, &'static [super::columns::Column])> {
    [
        charges::tables(),
        failures::tables(),
        log::tables(),
        people::tables(),
        presences::tables(),
        records::tables(),
        usage::tables(),
        visits::tables(),
    ]
    .concat()
}

/// The columns with which new API records are written.
#[cfg(test)]
pub(super) fn written() -> [(&'static str, &'static [super::columns::Column]); 2] {
    [visits::written(), failures::written()]
}

/// The statements of batches, timers and restarts, with the number of their arguments.
#[cfg(test)]
pub(super) fn statements() -> Vec<(super::statement::Statement, usize)> {
    [
        charges::statements(),
        coverage::statements(),
        failures::statements(),
        load::statements(),
        log::statements(),
        people::statements(),
        presences::statements(),
        records::statements(),
        usage::statements(),
        visits::statements(),
    ]
    .concat()
}

/// The query plan steps by which SQLite must find the rows of some of these statements.
#[cfg(test)]
pub(super) fn indexed() -> Vec<(super::statement::Statement, usize, &'static [&'static str])> {
    [failures::indexed(), load::indexed(), log::indexed(), people::indexed(), records::indexed(), usage::indexed()]
        .concat()
}
