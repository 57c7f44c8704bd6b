//! PURE. A person can only be in one place: how a claim at one business affects a visit at another.

use uuid::Uuid;

use super::{
    context::{ClaimContext, EndedVisit},
    state::PersonState,
    visit::Visit,
};
use crate::{
    base::{
        clock::WallTime,
        fact::FactDigest,
        record::{BusinessId, CheckinSource},
    },
    engine::{Claim, Decision, DoorClaim, decision::Note, life::CloseBy},
};

/// How a claim elsewhere affects an open visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElsewhereEffect {
    /// Not at all, for this reason.
    Nothing(Note),
    /// The visit ends: a door elsewhere let them in.
    Ends,
    /// The visit ends if they are admitted elsewhere.
    Asks,
}

/// How a claim at one business affects a person who is in at another.
pub(super) fn claimed_elsewhere(open: &Visit, context: &ClaimContext<'_>, claim: &Claim) -> ElsewhereEffect {
    match *claim {
        Claim::Door { action: DoorClaim::Entry | DoorClaim::Toggle, .. } => ElsewhereEffect::Ends,
        Claim::Door { action: DoorClaim::Exit | DoorClaim::Activity, .. } => {
            ElsewhereEffect::Nothing(Note::NotCheckedIn)
        }
        Claim::Withdrawn { .. } => ElsewhereEffect::Nothing(Note::Late),
        Claim::Network { first_at, .. } if first_at <= open.last_activity.plus(context.idle_elsewhere) => {
            ElsewhereEffect::Nothing(Note::InElsewhere)
        }
        Claim::Network { strong_at: None, .. } => ElsewhereEffect::Nothing(Note::WeakEvidence),
        Claim::Network { strong_at: Some(_), .. } => ElsewhereEffect::Asks,
    }
}

impl PersonState {
    /// Decides a network claim about a person who is in elsewhere, where their device is silent. They stay checked in
    /// there unless they are admitted here.
    pub(super) fn ask_elsewhere(
        &mut self,
        context: &ClaimContext<'_>,
        claim: &Claim,
        id: FactDigest,
    ) -> (Decision, Option<EndedVisit>) {
        let Some(from) = self.began(context, claim) else { return (Decision::recorded(Note::WeakEvidence), None) };
        let mut moved_on = self.clone();
        let continued = self.open().and_then(Visit::held_pass);
        let ended = moved_on.end_elsewhere(from);
        let decision = moved_on.ask(context, claim, from, continued, id);
        // The move counts if a visit was opened, even if the pass that let them in is already used up.
        if moved_on.visits.len() > self.visits.len() {
            *self = moved_on;
            (decision, ended)
        } else {
            (decision, None)
        }
    }

    /// Prepares the question whether a person would be admitted here: ends their open visit elsewhere and returns the
    /// pass that continues. The network does not move a person while their device is still seen there.
    pub(in crate::engine) fn come_from_elsewhere(
        &mut self,
        business: BusinessId,
        at: WallTime,
        by: CheckinSource,
        idle_elsewhere: std::time::Duration,
    ) -> Result<Option<Uuid>, Note> {
        let Some(open) = self.open().filter(|open| open.business != business) else { return Ok(None) };
        if by == CheckinSource::NetworkActivity && at <= open.last_activity.plus(idle_elsewhere) {
            return Err(Note::InElsewhere);
        }
        let continued = open.held_pass();
        self.end_elsewhere(at);
        Ok(continued)
    }

    pub(super) fn end_elsewhere(&mut self, at: WallTime) -> Option<EndedVisit> {
        self.close_open(CloseBy::Elsewhere, at)
    }
}
