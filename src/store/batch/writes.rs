//! Everything that a batch writes, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        fact::{LogDay, StoredFact, Subject},
        record::{BusinessId, CoworkerId},
    },
    engine::{
        fold::{ChargeRecord, FailureRecord, VisitRecord},
        passes::{Counted, Used},
        person::PersonState,
    },
    store::{
        batch::{
            coverage::CoverageRow,
            log::DecidedFact,
            people::NewPersonState,
            presences::UnloggedPresence,
            transaction::Batch,
            visits::{Calendars, ChangedVisit, EditedVisit},
        },
        error::StoreError,
    },
};

/// Everything that a batch writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) facts: Vec<DecidedFact>,
    /// Facts in the log whose decision has changed.
    pub(crate) decided_again: Vec<DecidedFact>,
    /// Facts whose times a clock step has shown to be wrong.
    pub(crate) gone_facts: Vec<StoredFact>,
    pub(crate) people: Vec<NewPersonState>,
    pub(crate) checkpoints: Vec<(Subject, LogDay, PersonState)>,
    pub(crate) gone_checkpoints: Vec<(Subject, LogDay)>,
    pub(crate) gone_unlogged: BTreeSet<Subject>,
    pub(crate) unlogged: Vec<UnloggedPresence>,
    pub(crate) new_visits: Vec<VisitRecord>,
    pub(crate) changed_visits: Vec<ChangedVisit>,
    pub(crate) gone_visits: Vec<Uuid>,
    pub(crate) edited_visits: Vec<EditedVisit>,
    pub(crate) failures: Vec<FailureRecord>,
    /// Failures that already exist, but may differ in time or reason.
    pub(crate) changed_failures: Vec<FailureRecord>,
    pub(crate) gone_failures: Vec<Uuid>,
    pub(crate) charges: Vec<ChargeRecord>,
    pub(crate) gone_charges: Vec<Uuid>,
    pub(crate) pass_usage: Vec<(Uuid, Subject, Used)>,
    pub(crate) plan_usage: BTreeMap<(CoworkerId, NaiveDate), Counted>,
    /// People whose totals after a day, or all of whose totals, are replaced.
    pub(crate) recounted: Vec<(CoworkerId, Option<NaiveDate>)>,
    pub(crate) coverage: Option<(Uuid, BusinessId, CoverageRow)>,
}

impl Batch {
    /// Writes everything. `calendar` returns the calendar of a business at an instant.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another gateway has written the same facts or people meanwhile.
    pub(crate) async fn write(
        &mut self,
        writes: &Writes,
        calendar: Calendars<'_>,
        now: WallTime,
    ) -> Result<(), StoreError> {
        // The log first: a fact that another gateway has written ends the batch before anything else is sent.
        self.write_log(&writes.gone_facts, &writes.facts, &writes.decided_again).await?;
        self.write_presences(&writes.gone_unlogged, &writes.unlogged).await?;
        if let Some((id, business, interval)) = writes.coverage {
            self.write_coverage(id, business, interval).await?;
        }
        // The records.
        let when = (calendar, now);
        self.write_visits(&writes.gone_visits, &writes.changed_visits, &writes.new_visits, when).await?;
        self.mark_edited(&writes.edited_visits, now).await?;
        self.write_failures(&writes.gone_failures, &writes.changed_failures, &writes.failures, when).await?;
        self.write_charges(&writes.gone_charges, &writes.charges, now).await?;
        // Usage, and last the person states, whose revisions show whether another gateway was faster.
        self.write_pass_usage(&writes.pass_usage).await?;
        self.write_plan_usage(&writes.recounted, &writes.plan_usage).await?;
        self.write_checkpoints(&writes.gone_checkpoints, &writes.checkpoints).await?;
        self.write_people(&writes.people).await
    }
}
