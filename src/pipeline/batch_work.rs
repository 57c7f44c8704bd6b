//! The work of one transaction, and its result.

use std::collections::{BTreeMap, BTreeSet};

use super::{clock_step::ClockStep, decide::Decided, intake::Intake};
use crate::{
    base::{
        clock::WallTime,
        fact::{LogDay, Subject},
        version::VersionId,
    },
    directory::history::DirectoryHistory,
    engine::{
        decision::{Outcome, Reason},
        fold::FailureRecord,
    },
    store::{DecidedFact, StoreError},
};

/// What one transaction decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchWork<'a> {
    /// The new facts.
    pub(super) sub_batch: &'a Intake,
    /// People to fold up to now without a new fact.
    pub(super) people: &'a BTreeSet<Subject>,
    /// Failed check-ins of unknown devices, and their facts.
    pub(super) unknown_devices: &'a [(FailureRecord, DecidedFact)],
    /// A step of the wall clock. It moves what the clock stamped about everyone in `people`, and the open check-ins of
    /// those in this set.
    pub(super) step: Option<(ClockStep, &'a BTreeSet<Subject>)>,
    /// The place in the spool up to which everything is committed with this; `None` if that does not change.
    pub(super) place: Option<i64>,
    /// The newest version of the directory when the facts were read; `None` if there are no facts.
    pub(super) read_by: Option<VersionId>,
    /// The day from which everyone is refolded, if coverage has been proven since their facts were decided.
    pub(super) refold_from: Option<LogDay>,
    /// Whether to write everything and then roll it back.
    pub(super) is_rehearsal: bool,
}

impl<'a> BatchWork<'a> {
    /// Folds these people up to now.
    pub(super) const fn fold_now(sub_batch: &'a Intake, people: &'a BTreeSet<Subject>) -> Self {
        Self {
            sub_batch,
            people,
            unknown_devices: &[],
            step: None,
            place: None,
            read_by: None,
            refold_from: None,
            is_rehearsal: false,
        }
    }

    /// The number of facts and people in it.
    pub(super) fn size(&self) -> usize {
        self.sub_batch.len() + self.unknown_devices.len() + self.people.len()
    }

    /// Whether the facts were read with the newest of these versions.
    pub(super) fn is_read_by(&self, directories: &DirectoryHistory) -> bool {
        self.read_by.is_none_or(|version| version == directories.latest().version_id())
    }
}

/// How an attempt at a transaction ended without a failure.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is committed.
    Committed(Box<BatchResult>),
    /// The loaded directory or settings are not the newest.
    Stale,
    /// The database lacks an earlier commit of this gateway.
    WentBack,
}

/// What became of an attempt to commit.
#[derive(Debug)]
pub(super) enum CommitEnd {
    /// It is durable.
    Committed(BatchResult),
    /// There is a newer directory, or newer settings; by now they are loaded, or it has waited a moment for them. Or
    /// the database went back; by now the pipeline has recovered.
    Stale,
    /// The database does not take so much at once, or not this.
    Unfit(StoreError),
}

/// The result of a committed transaction.
#[derive(Debug, Default)]
pub(super) struct BatchResult {
    /// The outcome of each new fact.
    pub(super) outcomes: Vec<(Outcome, Option<Reason>)>,
    /// The result of each fold.
    pub(super) decided: Vec<Decided>,
    /// People to refold once the coverage up to these instants is proven.
    pub(super) unproven: BTreeMap<Subject, WallTime>,
}

impl BatchResult {
    /// Adds the result of another transaction.
    pub(super) fn add(&mut self, mut other: Self) {
        self.outcomes.append(&mut other.outcomes);
        self.decided.append(&mut other.decided);
        self.unproven.append(&mut other.unproven);
    }
}
