//! PURE. Who a sighting belongs to, and whether it may open a check-in. The first check that fails is the reason.

use uuid::Uuid;

use super::{
    Admission, Claim, DoorClaim,
    decision::{Note, Reason},
    passes::{self, Ask, Entitlement, PassEnd, PassUse, Refused, Usage},
    person::{AdmissionCheck, PersonState, Visit},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, Recognised},
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId},
        sighting::{Direction, DoorEventKind, Refusal},
    },
    directory::{Coworker, Directory},
    policy::{
        SitePolicy,
        calendar::Calendar,
        door::{Door, DoorAction},
        site::{NetworkOpens, Site, UnrecognisedDevices},
    },
};

/// The verdict on a door event, before the person's check-ins are considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorVerdict {
    /// A known person did something that affects their check-ins.
    Claim(DoorClaim),
    /// A failed check-in; it names the person if they are known.
    Fail(Reason),
    /// Only the log of facts is written.
    Record(Note),
}

/// Judges a door event by the settings in force at its time.
pub fn judge_door(fact: &DoorFact, policy: &SitePolicy) -> DoorVerdict {
    if !fact.kind.names_person() || fact.shown.is_none() && !fact.kind.is_refusal() {
        return DoorVerdict::Record(Note::NamesNoOne);
    }
    let known = fact.recognised == Recognised::Coworker;
    // A refusal by the controller, an unknown credential and duress fail at any door.
    match fact.kind {
        DoorEventKind::Denied => {
            return DoorVerdict::Fail(Reason::RefusedByController(fact.refusal.unwrap_or(Refusal::Other)));
        }
        DoorEventKind::UnknownCredential => {
            let refused = Reason::RefusedByController(Refusal::Other);
            return DoorVerdict::Fail(if known { refused } else { Reason::UnrecognisedCard });
        }
        DoorEventKind::Duress => return DoorVerdict::Fail(Reason::Duress),
        DoorEventKind::Granted
        | DoorEventKind::Read
        | DoorEventKind::Exit
        | DoorEventKind::RemoteOpen
        | DoorEventKind::DoorOpen
        | DoorEventKind::DoorClosed
        | DoorEventKind::Held
        | DoorEventKind::Forced
        | DoorEventKind::Tamper
        | DoorEventKind::Bell
        | DoorEventKind::Online
        | DoorEventKind::Offline
        | DoorEventKind::Heartbeat => {}
    }
    // The settings of the door decide what a grant means.
    let Some(door) = Door::of(&policy.doors, &fact.door.0) else {
        return DoorVerdict::Fail(Reason::DoorNotConfigured);
    };
    let action = match fact.direction {
        Direction::In | Direction::Unknown => door.on_in,
        Direction::Out => door.on_out,
    };
    let action = match action {
        DoorAction::CheckIn => DoorClaim::Entry,
        DoorAction::CheckOut => DoorClaim::Exit,
        DoorAction::Toggle => DoorClaim::Toggle,
        DoorAction::Activity => DoorClaim::Activity,
        DoorAction::Record => return DoorVerdict::Record(Note::RecordOnly),
    };
    match (fact.recognised, fact.shown_device().is_some()) {
        (Recognised::Coworker, _) => DoorVerdict::Claim(action),
        (Recognised::Ambiguous, false) => DoorVerdict::Fail(Reason::AmbiguousCard),
        (Recognised::Ambiguous, true) => DoorVerdict::Fail(Reason::AmbiguousDevice),
        (Recognised::Unknown | Recognised::NoCredential, false) => DoorVerdict::Fail(Reason::UnrecognisedCard),
        (Recognised::Unknown | Recognised::NoCredential, true) => DoorVerdict::Fail(Reason::UnrecognisedDevice),
    }
}

/// Whether a site records failed check-ins of a device that no one has registered.
pub fn wants_record(site: &Site, mac: MacAddr) -> bool {
    match site.unrecognised_devices {
        UnrecognisedDevices::All => true,
        UnrecognisedDevices::GlobalOnly => !mac.is_local(),
        UnrecognisedDevices::Off => false,
    }
}

/// The admission of one coworker at a site: first whether anything rules them out, then what the site lets the network
/// do, then limits and passes.
pub struct SiteAdmission<'a> {
    /// The site.
    pub site: &'a Site,
    /// Its pass days.
    pub calendar: Calendar,
    /// People, passes and plans at the time.
    pub directory: &'a Directory,
    /// Who.
    pub coworker: CoworkerId,
    /// Returns what a person in this state, and everyone who may use the same passes, has used of passes and limits.
    pub usage: &'a dyn Fn(&PersonState) -> (Usage, Vec<passes::Spent>),
}

impl std::fmt::Debug for SiteAdmission<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteAdmission").field("coworker", &self.coworker).finish_non_exhaustive()
    }
}

impl AdmissionCheck for SiteAdmission<'_> {
    fn may_open(&self, claim: &Claim, from: WallTime, person: &PersonState, continued: Option<Uuid>) -> Admission {
        if let Some(reason) = self.against(claim.source()) {
            return Admission::Refused(Refused { reason, detail: None });
        }
        if let Claim::Network { since, last_at, strong_at, .. } = *claim
            && let Some(note) = self.held(since, last_at, strong_at.unwrap_or(last_at), person)
        {
            return Admission::NotNow(note);
        }
        self.entitled((claim.at(), from), claim.source(), person, continued)
    }

    fn may_come_in(
        &self,
        at: WallTime,
        source: CheckinSource,
        person: &PersonState,
        continued: Option<Uuid>,
    ) -> Admission {
        match self.against(source) {
            Some(reason) => Admission::Refused(Refused { reason, detail: None }),
            None => self.entitled((at, at), source, person, continued),
        }
    }

    fn may_stay(&self, at: WallTime, source: CheckinSource, person: &PersonState) -> Admission {
        match self.barrier() {
            Some(reason) => Admission::Refused(Refused { reason, detail: None }),
            None => self.entitled((at, at), source, person, None),
        }
    }
}

impl SiteAdmission<'_> {
    /// The [`barrier`] of this coworker at this site.
    pub fn barrier(&self) -> Option<Reason> {
        self.directory
            .coworker(self.coworker)
            .map_or(Some(Reason::CoworkerArchived), |known| barrier(known, self.site.business))
    }

    fn against(&self, source: CheckinSource) -> Option<Reason> {
        let by_network = source == CheckinSource::NetworkActivity;
        let allowed = |known: &Coworker| !by_network || known.allow_network_checkin;
        self.barrier().or_else(|| {
            (!self.directory.coworker(self.coworker).is_some_and(allowed)).then_some(Reason::NetworkNotAllowed)
        })
    }

    /// Returns the pass by which a person who has been there since `from` may come in at `at`.
    pub(super) fn entitled(
        &self,
        (at, from): (WallTime, WallTime),
        by: CheckinSource,
        person: &PersonState,
        continued: Option<Uuid>,
    ) -> Admission {
        let Some(coworker) = self.directory.coworker(self.coworker) else {
            return Admission::Refused(Refused { reason: Reason::CoworkerArchived, detail: None });
        };
        if !self.site.passes.asks(self.directory) {
            return Admission::Admitted(None);
        }
        let ask = Ask { coworker, business: self.site.business, by, at, from, continued };
        let (usage, also) = (self.usage)(person);
        match passes::entitle(self.directory, &self.site.passes, &self.calendar, &ask, &usage, &also) {
            Ok(Entitlement::Unchecked) => Admission::Admitted(None),
            Ok(Entitlement::Pass(pass)) => Admission::Admitted(Some(pass)),
            Err(refused) => Admission::Refused(refused),
        }
    }

    /// The pass of an open visit with its end by this directory; `None` if the end did not change or no pass covers the
    /// visit. A pass that is no longer valid ends now.
    pub fn new_pass_end(&self, open: &Visit, person: &PersonState, now: WallTime) -> Option<PassUse> {
        let pass = open.pass.as_ref()?;
        let coworker = self.directory.coworker(self.coworker)?;
        // The visit itself must not count as a use of its pass.
        let mut without = person.clone();
        for visit in without.visits.iter_mut().filter(|visit| visit.unique_id == open.unique_id) {
            visit.to = Some(visit.since);
        }
        let (usage, also) = (self.usage)(&without);
        let (business, by) = (self.site.business, open.source);
        let ask = Ask { coworker, business, by, at: now, from: open.since, continued: None };
        let found =
            passes::lasting(self.directory, &self.site.passes, &self.calendar, &ask, &usage, &also, (pass, open.day));
        let ends = found.map_or(Some((now, PassEnd::Expires)), |found| found.ends);
        let ends = ends.map(|(at, why)| (at.max(now), why));
        (ends != pass.ends).then(|| PassUse { ends, ..pass.clone() })
    }

    /// What keeps the network from opening a check-in, although it is no refusal.
    fn held(&self, since: WallTime, at: WallTime, evidence: WallTime, person: &PersonState) -> Option<Note> {
        let may_open = self.site.network_checkins
            && match self.site.network_opens {
                NetworkOpens::Always => true,
                NetworkOpens::AfterDoor => person.let_in_by_door(self.site.business, &self.calendar, at),
                NetworkOpens::Never => false,
            };
        if !may_open {
            Some(Note::NetworkMayNotOpen)
        } else if evidence.since(since) < self.site.minimum_dwell {
            Some(Note::DwellNotReached)
        } else {
            None
        }
    }
}

/// Why a recognised coworker may not be here at all: archived, not active, or of other businesses.
pub fn barrier(coworker: &Coworker, business: BusinessId) -> Option<Reason> {
    if coworker.archived {
        Some(Reason::CoworkerArchived)
    } else if !coworker.active {
        Some(Reason::CoworkerInactive)
    } else if !coworker.belongs_to(business) {
        Some(Reason::OtherBusiness)
    } else {
        None
    }
}
