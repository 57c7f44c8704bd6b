//! PURE. Applies a claim to a person, depending on whether they are in, out or leaving.

use super::{
    context::{ClaimContext, EndedVisit},
    elsewhere::{ElsewhereEffect, claimed_elsewhere},
    state::PersonState,
    visit::Visit,
};
use crate::{
    base::{
        clock::WallTime,
        fact::{FactDigest, TapId},
    },
    engine::{
        Claim, Decision, DoorClaim,
        decision::{Note, Outcome},
        life::{self, Input, LifeStep, Phase},
    },
};

impl PersonState {
    /// Decides the next claim. `id` identifies the fact that it came from.
    pub fn decide(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        id: FactDigest,
    ) -> (Decision, Option<EndedVisit>) {
        // An edit has the last word.
        if let Some(decision) = self.settled_by_edit(context, claim) {
            return (decision, None);
        }
        // What just happened can change the meaning of this claim.
        self.extend_to_pass_end(context, claim);
        let claim = &self.still_leaving(context, *claim);
        // A person can only be in one place, so a visit elsewhere is handled first.
        let mut moved = None;
        let mut continued = None;
        if let Some(open) = self.open().filter(|open| open.business != context.business) {
            match claimed_elsewhere(open, context, claim) {
                ElsewhereEffect::Nothing(note) => return (Decision::recorded(note), None),
                ElsewhereEffect::Ends => {
                    continued = open.held_pass();
                    moved = self.end_elsewhere(claim.at());
                }
                ElsewhereEffect::Asks => return self.ask_elsewhere(context, claim, id),
            }
        }
        // Only earlier door events of this visit decide whether a toggle means in or out. An exit by toggle is
        // remembered, so a second tap just after it does not count as an entry.
        let (phase, index) = self.phase(context, claim);
        let resolved = self.resolve_toggle(context, *claim, phase, index);
        if let (Claim::Door { action: DoorClaim::Toggle, at }, Claim::Door { action: DoorClaim::Exit, .. }) =
            (*claim, resolved)
        {
            let absent_until = at.plus(context.rules.toggle_minimum_stay);
            self.taps.push((TapId::toggled_out(context.business), absent_until));
            if let (Phase::Out | Phase::Left, Some(visit)) = (phase, self.visit_at(index)) {
                // A door has now reported that they left.
                visit.door_in_at = None;
            }
        }
        // Take the step of the life cycle.
        let claim = &resolved;
        let decision = match life::step(phase, self.input(context, claim, index)) {
            LifeStep::Ask => match self.began(context, claim) {
                Some(from) => self.ask(context, claim, from, continued, id),
                None => Decision::recorded(Note::WeakEvidence),
            },
            LifeStep::Refresh => self.refresh(context, claim, index, id),
            LifeStep::Close(by) => {
                let Some(visit) = self.visit_at(index) else { return (Decision::recorded(Note::NotCheckedIn), moved) };
                visit.close(by, claim.at());
                Decision::of(Outcome::Closed, visit.unique_id)
            }
            LifeStep::Linger => {
                let Some(visit) = self.visit_at(index) else { return (Decision::recorded(Note::Lingering), moved) };
                visit.lingered_at = visit.lingered_at.max(Some(claim.at()));
                Decision { visit: Some(visit.unique_id), ..Decision::recorded(Note::Lingering) }
            }
            LifeStep::Record(note) => Decision::recorded(note),
            LifeStep::Nothing => Decision::recorded(Note::Late),
        };
        (decision, moved)
    }

    /// If a visit was cut back to the last activity because its pass ended, and the person is seen again within the
    /// idle limit, they were there all along: restore the visit to the end of the pass.
    fn extend_to_pass_end(&mut self, context: &ClaimContext<'_>, claim: &Claim) {
        let weak = matches!(claim, Claim::Network { strong_at: None, .. } | Claim::Withdrawn { .. });
        if weak || self.open().is_some() {
            return;
        }
        let Some(visit) = self.visits.last_mut().filter(|visit| visit.business == context.business) else { return };
        if let Some(end) = visit.cut_short()
            && end <= claim.at()
            && visit.day.contains(claim.at())
            && !silent_before(visit, context, claim.seen_at())
        {
            visit.to = Some(end);
        }
    }

    /// The coworker's phase at this business, and the index of the visit that it refers to.
    fn phase(&self, context: &ClaimContext<'_>, claim: &Claim) -> (Phase, Option<usize>) {
        if let Some(index) = self.visits.iter().position(Visit::is_open) {
            let tracked = self.visits.get(index).is_some_and(Visit::is_tracked);
            return (if tracked { Phase::Tracked } else { Phase::In }, Some(index));
        }
        let previous = self.visits.len().checked_sub(1);
        let left = self.visits.last().is_some_and(|visit| lingers(visit, context, claim));
        (if left { Phase::Left } else { Phase::Out }, previous)
    }

    /// Turns a tap at a toggle door just after an exit into activity: it is not an entry, the person is still leaving.
    fn still_leaving(&self, context: &ClaimContext<'_>, claim: Claim) -> Claim {
        let Claim::Door { action: DoorClaim::Toggle, at } = claim else { return claim };
        let is_in = self.open().is_some_and(|open| open.business == context.business);
        let left = TapId::toggled_out(context.business);
        if !is_in && self.taps.iter().any(|(known, until)| *known == left && at < *until) {
            Claim::Door { action: DoorClaim::Activity, at }
        } else {
            claim
        }
    }

    /// What a tap at a toggle door means in this phase. The first tap during a visit that the network opened is an
    /// entry, because no door has reported one yet. If a person's pass ended while they were in, their first tap is
    /// their exit.
    fn resolve_toggle(&self, context: &ClaimContext<'_>, claim: Claim, phase: Phase, index: Option<usize>) -> Claim {
        let Claim::Door { action: DoorClaim::Toggle, at } = claim else {
            return claim;
        };
        let visit = index.and_then(|index| self.visits.get(index));
        let visit = visit.filter(|visit| match phase {
            Phase::In | Phase::Tracked => true,
            Phase::Out | Phase::Left => stays_without_pass(visit, context, at),
        });
        let action = visit.map_or(DoorClaim::Entry, |visit| visit.toggled(at, context.rules));
        Claim::Door { action, at }
    }

    fn input(&self, context: &ClaimContext<'_>, claim: &Claim, index: Option<usize>) -> Input {
        match *claim {
            Claim::Door { action, .. } => match action {
                DoorClaim::Entry | DoorClaim::Toggle => Input::Entry,
                DoorClaim::Exit => Input::Exit,
                DoorClaim::Activity => Input::Activity,
            },
            Claim::Network { strong_at: Some(_), .. } => Input::Strong,
            Claim::Network { strong_at: None, last_at, .. } => Input::Weak {
                fresh: index
                    .and_then(|index| self.visits.get(index))
                    .and_then(|visit| visit.strong_at)
                    .is_some_and(|strong| last_at <= strong.plus(context.rules.idle_limit.saturating_mul(2))),
            },
            Claim::Withdrawn { .. } => Input::Withdrawn,
        }
    }
}

/// Whether the idle limit expired before `at`.
fn silent_before(visit: &Visit, context: &ClaimContext<'_>, at: WallTime) -> bool {
    visit.is_tracked()
        && context.coverage.run_out(visit.last_activity, context.rules.idle_limit).is_some_and(|silence| silence < at)
}

/// Whether the visit ended only because its pass did. A person let in by a door may then still be there, but not
/// beyond that pass day.
fn stays_without_pass(visit: &Visit, context: &ClaimContext<'_>, at: WallTime) -> bool {
    visit.pass_ended
        && visit.business == context.business
        && visit.day.contains(at)
        && !silent_before(visit, context, at)
}

/// Whether this network evidence is only the phone of a person who is leaving.
fn lingers(visit: &Visit, context: &ClaimContext<'_>, claim: &Claim) -> bool {
    let Claim::Network { first_at, last_at, .. } = *claim else {
        return false;
    };
    let Some(to) = visit.to.filter(|_| visit.left_by_exit() && visit.business == context.business) else {
        return false;
    };
    first_at <= visit.followed_until(context.rules) && last_at <= to.plus(context.rules.idle_limit)
}
