//! PURE. Opens and refreshes visits: when the person arrived, by which pass, and whether it is a new record.

use uuid::Uuid;

use super::{
    context::ClaimContext,
    state::{PersonState, next_opening, visit_of},
    visit::{Pinned, Visit},
};
use crate::{
    base::{clock::WallTime, fact::FactDigest},
    engine::{
        Admission, Claim, Decision, DoorClaim,
        decision::{Note, Outcome},
        life::CloseBy,
        passes::{PassKind, PassUse},
    },
};

impl PersonState {
    /// Checks whether a person who has been there since `from` may come in, and opens a visit if so.
    pub(super) fn ask(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        from: WallTime,
        continued: Option<Uuid>,
        id: FactDigest,
    ) -> Decision {
        match context.admission.may_open(claim, from, self, continued) {
            Admission::Admitted(pass) => {
                let used_up = pass.as_ref().and_then(|pass| pass.ends).map(|(at, _)| at).filter(|at| *at <= claim.at());
                let decision = self.come_in(context, claim, from, pass, id);
                match used_up {
                    Some(at) => self.ask_again(context, claim, at, decision, id),
                    None => decision,
                }
            }
            Admission::Refused(refused) => Decision::refused(refused),
            Admission::NotNow(note) => Decision::recorded(note),
        }
    }

    /// Handles a visit with a pass that was used up before the claim, because the person had been there for so long:
    /// closes the visit at the end of the pass, and checks whether another pass lets them stay.
    fn ask_again(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        end: WallTime,
        decision: Decision,
        id: FactDigest,
    ) -> Decision {
        if let Some(visit) = self.visits.last_mut() {
            visit.close(CloseBy::PassEnd, end);
            visit.last_activity = visit.last_activity.min(end);
        }
        match self.began(context, claim) {
            Some(from) => self.ask(context, claim, from, None, next_opening(id)),
            None => decision,
        }
    }

    /// Reopens a visit if the day is one block, or else opens a new one.
    fn come_in(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        from: WallTime,
        pass: Option<PassUse>,
        id: FactDigest,
    ) -> Decision {
        if let Some(visit) = self.same_block(context, claim, pass.as_ref()) {
            // Only presence counts, not the gap.
            visit.before += visit.to.unwrap_or(visit.since).since(visit.since).as_secs();
            visit.since = from;
            (visit.to, visit.auto_checkout, visit.lingered_at, visit.pass) = (None, false, None, pass);
            // Door events from before they left no longer count.
            (visit.pass_ended, visit.door_in_at) = (false, None);
            let unique_id = visit.unique_id;
            self.freshen(self.visits.len() - 1, context, claim);
            return Decision::of(Outcome::Opened, unique_id);
        }
        // A new record. Only the first visit of the day may later get an earlier start.
        let day = context.rules.calendar.pass_day(from);
        let first_of_day = !self.came.contains(&(context.business, day.start));
        self.came_on(context.business, day);
        let unique_id = visit_of(id);
        self.visits.push(Visit {
            admitted_at: claim.at(),
            last_activity: claim.at(),
            first_of_day,
            ..Visit::begun(unique_id, (context.business, claim.source()), from, day, pass)
        });
        self.freshen(self.visits.len() - 1, context, claim);
        Decision::of(Outcome::Opened, unique_id)
    }

    /// The visit that this claim reopens. With a day pass, or if no pass is required, the day is one block from first
    /// in to last out, so a return reopens the visit of that day with that pass.
    fn same_block(&mut self, context: &ClaimContext<'_>, claim: &Claim, pass: Option<&PassUse>) -> Option<&mut Visit> {
        if context.rules.record_every_visit {
            return None;
        }
        let visit = self.visits.last_mut().filter(|visit| visit.business == context.business)?;
        // An end that an edit has set stays.
        if matches!(visit.pinned, Pinned::Until(_)) {
            return None;
        }
        let same = match (visit.pass.as_ref(), pass) {
            (None, None) => true,
            // A record that counts towards the plan cannot be joined with one that does not.
            (Some(known), Some(pass)) => {
                [known.kind, pass.kind] == [PassKind::Day; 2]
                    && known.guid == pass.guid
                    && known.counts_towards_plan_limits == pass.counts_towards_plan_limits
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        (same && visit.day.contains(claim.at())).then_some(visit)
    }

    /// When the person arrived, for a claim that lets them in. For the network this is the start of the unbroken
    /// presence, but not before the end of the previous visit or the start of the pass day; `None` if there is no
    /// strong evidence since then.
    pub(super) fn began(&self, context: &ClaimContext<'_>, claim: &Claim) -> Option<WallTime> {
        match *claim {
            Claim::Door { at, .. } | Claim::Withdrawn { at } => Some(at),
            Claim::Network { since, first_at, last_at, strong_at, .. } => {
                let evidence = strong_at.unwrap_or(last_at);
                let previous = self.visits.last();
                let follows = |visit: &Visit| {
                    visit.business == context.business
                        && visit.left_by_exit()
                        && first_at <= visit.followed_until(context.rules)
                };
                let day = context.rules.calendar.pass_day(last_at).start;
                // Evidence from the time they were in elsewhere neither opens a visit nor sets its start.
                let elsewhere = |visit: &Visit| visit.is_open() && visit.business != context.business;
                let left = previous.map(|visit| match visit.to {
                    Some(to) => to,
                    None if elsewhere(visit) => visit.last_activity.plus(context.idle_elsewhere),
                    None => visit.last_activity,
                });
                let left = left
                    .max(previous.and_then(|visit| visit.lingered_at))
                    .max(self.absence_before(context.business, last_at));
                if evidence < day || left.is_some_and(|left| evidence < left) {
                    return None;
                }
                // The presence began as a lingering phone, so only the evidence since then shows that they came back.
                if previous.is_some_and(follows) {
                    return Some(evidence);
                }
                let after = |at: &WallTime| *at >= day && left.is_none_or(|left| *at > left);
                [since, first_at].into_iter().find(after).or(Some(evidence))
            }
        }
    }

    /// Refreshes an open visit. The first visit of the day may get an earlier start, and a used-up pass is replaced.
    pub(super) fn refresh(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        index: Option<usize>,
        id: FactDigest,
    ) -> Decision {
        let from = index.and_then(|index| self.earlier_beginning(context, claim, index));
        let Some(visit) = self.visit_at(index) else { return Decision::recorded(Note::NotCheckedIn) };
        let unique_id = visit.unique_id;
        if let Some(from) = from {
            visit.begin_at(from);
            visit.source = claim.source();
        }
        let used_up = visit.pass_ends().filter(|end| *end <= claim.at());
        if let Some(index) = index {
            self.freshen(index, context, claim);
        }
        let decision = Decision::of(Outcome::Refreshed, unique_id);
        match used_up {
            Some(end) => self.ask_again(context, claim, end, decision, id),
            None => decision,
        }
    }

    /// The earlier start of an open visit, if it is the first of the day and a device that could have opened it was
    /// seen before the door did.
    fn earlier_beginning(&self, context: &ClaimContext<'_>, claim: &Claim, index: usize) -> Option<WallTime> {
        let visit = self.visits.get(index)?;
        let Claim::Network { first_at, strong_at: Some(_), .. } = *claim else { return None };
        if visit.pinned != Pinned::No
            || self.absence_before(context.business, claim.at()).is_some_and(|end| first_at < end)
        {
            return None;
        }
        if !visit.first_of_day || !visit.day.contains(first_at) || first_at >= visit.from {
            return None;
        }
        let previous = index.checked_sub(1).and_then(|previous| self.visits.get(previous));
        if previous.is_some_and(|previous| previous.to.is_some_and(|to| first_at < to)) {
            return None;
        }
        // The state before the door let them in.
        let mut without = self.clone();
        without.let_in.retain(|(_, entry)| *entry < visit.from);
        without.visits.remove(index);
        match context.admission.may_open(claim, first_at, &without, None) {
            Admission::Admitted(_) => Some(first_at),
            Admission::Refused(_) | Admission::NotNow(_) => None,
        }
    }

    /// Updates a visit with a claim. Its times never move backwards.
    pub(super) fn freshen(&mut self, index: usize, context: &ClaimContext<'_>, claim: &Claim) {
        let Some(visit) = self.visits.get_mut(index) else { return };
        visit.last_activity = visit.last_activity.max(claim.at());
        match *claim {
            Claim::Door { action: DoorClaim::Entry | DoorClaim::Toggle, at } => {
                visit.door_in_at = visit.door_in_at.max(Some(at));
                self.let_in_at(context.business, at);
            }
            Claim::Door { action: DoorClaim::Exit | DoorClaim::Activity, .. } | Claim::Withdrawn { .. } => {}
            Claim::Network { mac, strong_at, .. } => {
                visit.macs.insert(mac);
                visit.strong_at = visit.strong_at.max(strong_at);
            }
        }
    }
}
