//! Edits of check-ins whose facts are deleted. Nothing can be folded again, so the row and everything that was counted
//! from it are changed directly.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::request::{EditAnswer, EditEnded, edit_of};
use crate::{
    base::{
        clock::WallTime,
        fact::{Edit, EditFact, EditedEnd, Fact, LogDay, Subject},
        record::{BusinessId, Checkin, CoworkerId},
    },
    engine::{
        decision::{DecisionCode, Note, Outcome},
        fold::{ChargeRecord, VisitRecord},
        passes::{PassKind, payg},
        person::{AmendedTotals, Amendment, Pinned, Visit},
    },
    pipeline::{
        decide::days_between,
        state::{Pipeline, calendar_of},
    },
    policy::{HISTORY, calendar::Calendar},
    store::{ChangedVisit, DecidedFact, EditedVisit, NewPersonState, StoredVisit, Writes},
};

/// No pass day is longer, so other check-ins of the same pass day began at most this long before.
const LONGEST_DAY: Duration = Duration::from_hours(25);

/// An edit of an old check-in.
pub(super) struct OldEdit<'a> {
    pub(super) known: &'a Checkin,
    pub(super) coworker: CoworkerId,
    /// `None` deletes it.
    pub(super) times: Option<(WallTime, WallTime)>,
    pub(super) by: &'a Arc<str>,
    pub(super) system_id: Option<String>,
}

impl OldEdit<'_> {
    fn fact(&self, now: WallTime) -> EditFact {
        let says =
            self.times.map_or(Edit::Removed, |(from, to)| Edit::Set { from, end: EditedEnd::At(to), overrides: false });
        edit_of(self.by, self.known, self.coworker, now, says)
    }
}

impl Pipeline {
    /// Changes or deletes an old check-in, with what was counted from it.
    pub(super) async fn amend(&self, edit: OldEdit<'_>, now: WallTime) -> Result<(), EditEnded> {
        let subject = Subject::coworker(edit.coworker);
        let mut transaction = self.context.store.batch().await?;
        let mut loaded = transaction.load(&BTreeSet::from([subject]), &[]).await?;
        let since = edit.known.from_time.minus(LONGEST_DAY);
        // Failed check-ins are not concerned.
        let since = BTreeMap::from([(edit.coworker, (since, now))]);
        let records = transaction.records(&since).await?;
        let Some(stored) = records.visits.get(&edit.known.unique_id) else {
            return Err(EditEnded::Answered(EditAnswer::Missing));
        };
        let policies = Arc::clone(&self.context.policies.borrow());
        let calendar = |business: BusinessId, at: WallTime| calendar_of(&policies, business, at);
        let was = visit_of(stored, &calendar(stored.business, stored.from));
        let ended = was.to.unwrap_or(was.from);

        // What else happened on that pass day decides whether a day of access is given back.
        let mut others = records
            .visits
            .values()
            .filter(|other| other.unique_id != was.unique_id)
            .filter(|other| calendar(other.business, other.from).pass_day(other.from).date == was.day.date);
        let (mut alone_towards_plan, mut alone_on_pass) = (true, true);
        others.by_ref().for_each(|other| {
            let pass = other.pass.as_ref();
            alone_towards_plan &= !pass.is_some_and(|pass| pass.counts_towards_plan_limits);
            alone_on_pass &= pass.and_then(|pass| pass.guid) != was.held_pass();
        });
        let amendment = Amendment { was: &was, ended, now: edit.times, alone_towards_plan, alone_on_pass };

        // The current state, and those from which a late fact would be folded.
        let mut writes = Writes::default();
        let known = loaded.people.remove(&subject).unwrap_or_default();
        let mut person = known.person.clone();
        let totals: AmendedTotals = person.amend(&amendment);
        writes.people.push(NewPersonState {
            subject,
            revision: known.revision,
            person,
            deadline: known.deadline,
            same_deadline: known.revision > 0,
        });
        let days: Vec<(Subject, LogDay)> = days_between(LogDay::of(now.minus(HISTORY)), LogDay(LogDay::of(now).0 + 1))
            .map(|day| (subject, day))
            .collect();
        for (subject, day, mut state) in transaction.checkpoints(&days).await? {
            state.amend(&amendment);
            writes.checkpoints.push((subject, day, state));
        }

        // The record, its charge, and the fact that says who changed it.
        match edit.times {
            None => {
                writes.gone_visits.push(was.unique_id);
                writes.gone_charges.push(was.unique_id);
            }
            Some((from, to)) => {
                let now_it_is = Visit {
                    from,
                    to: Some(to),
                    since: from,
                    auto_checkout: false,
                    pinned: Pinned::Until(to),
                    last_activity: was.last_activity.clamp(from, to),
                    ..was.clone()
                };
                writes.charges.extend(self.charge_again(edit.coworker, &now_it_is));
                let record = VisitRecord { coworker: edit.coworker, visit: now_it_is, opened: None };
                writes.changed_visits.push(ChangedVisit { known_as: was.unique_id, record, stays: false });
                writes.edited_visits.push(EditedVisit {
                    unique_id: was.unique_id,
                    by: Arc::clone(edit.by),
                    system_id: edit.system_id.clone(),
                });
            }
        }
        let decision = DecisionCode::of(Outcome::Recorded, Some(Note::Edited.word()));
        writes.facts.push(DecidedFact { fact: Fact::Edit(edit.fact(now)).stored(), decision });
        transaction.write(&writes, &calendar, now).await?;
        transaction.shift_usage(edit.coworker, totals).await?;
        Ok(transaction.commit().await?)
    }

    /// What a pay-as-you-go visit costs with its new length, by the prices of today: those of its own day are deleted.
    /// `None` if its kind of pass is gone; then the charge stays.
    fn charge_again(&self, coworker: CoworkerId, visit: &Visit) -> Option<ChargeRecord> {
        let pass = visit.pass.as_ref().filter(|pass| pass.kind == PassKind::PayAsYouGo)?;
        let policies = self.context.policies.borrow();
        let rules = policies.latest(visit.business)?.site.passes.pay_as_you_go.clone()?;
        let directories = self.context.directories.borrow();
        let kind = directories.latest().time_pass(pass.time_pass)?;
        Some(ChargeRecord::of(coworker, visit, kind, &rules, &payg::Charged::default()))
    }
}

/// A stored visit, as the engine sees it.
fn visit_of(stored: &StoredVisit, calendar: &Calendar) -> Visit {
    Visit {
        unique_id: stored.unique_id,
        business: stored.business,
        source: stored.source,
        from: stored.from,
        admitted_at: stored.from,
        to: stored.to,
        day: calendar.pass_day(stored.from),
        auto_checkout: stored.auto_checkout,
        pass_ended: false,
        last_activity: stored.last_activity,
        macs: stored.macs.clone(),
        door_in_at: None,
        strong_at: (!stored.macs.is_empty()).then_some(stored.last_activity),
        lingered_at: None,
        pass: stored.pass.clone(),
        first_of_day: false,
        since: stored.from,
        before: 0,
        pinned: Pinned::No,
    }
}
